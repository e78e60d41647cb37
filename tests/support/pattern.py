"""A long stream of bytes that costs nothing to make and shows every lost, doubled or misplaced block."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import cache

BLOCK = 256 * 1024
_NOISE = random.Random(9112).randbytes(BLOCK)[8:]


def pattern(size: int) -> Iterator[bytes]:
    """`size` bytes in blocks; each block begins with its own offset."""
    for offset in range(0, size, BLOCK):
        yield (offset.to_bytes(8) + _NOISE)[: size - offset]


def new_digest() -> hashlib._Hash:
    """What both ends reckon with."""
    return hashlib.sha256()


@cache
def pattern_digest(size: int) -> str:
    """The digest that whoever has received `pattern(size)` must come to."""
    digest = new_digest()
    for block in pattern(size):
        digest.update(block)
    return digest.hexdigest()
