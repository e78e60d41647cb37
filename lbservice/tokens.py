"""Tokens: long random secrets that programs show. A file holds their hashes, a line each: `NAME LEVEL SHA256-HEX`.

The hash needs no salt and no slowness: what is hashed is 256 bits of chance, not a word that somebody thought of.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass

LEVELS = ("viewer", "operator", "admin")
BYTES = 32
SHORTEST = 22
"""Characters of a token: 128 bits in base64."""
LARGEST = 1024 * 1024
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@-]{0,63})[ \t]+([a-z]+)[ \t]+([0-9a-f]{64}|-)")


@dataclass(frozen=True, slots=True)
class Token:
    """One line. A `digest` of "-" is for who shows a certificate with that name, and no token."""

    name: str
    level: str
    digest: str


def make(name: str, level: str) -> tuple[str, str]:
    """A new token, and the line for the file. Raises ValueError for a name that cannot be."""
    token = f"lbs_{secrets.token_urlsafe(BYTES)}"
    line = f"{name} {level} {digest(token)}"
    if not _LINE.fullmatch(line) or level not in LEVELS:
        raise ValueError(f"{name} {level}: a name has letters, digits and . _ @ -; levels are {', '.join(LEVELS)}")
    return token, line


def digest(token: str) -> str:
    """What the file holds of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def parse(text: str) -> tuple[Token, ...]:
    """The lines of a file; blank ones and `#` comments are none. Raises ValueError, which names the line."""
    found: list[Token] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            # The line is not shown: somebody may have put the token itself there.
            raise ValueError(f"line {number}: write NAME LEVEL SHA256, as `lbservice token NAME LEVEL` prints it")
        name, level, hashed = match.groups()
        if level not in LEVELS:
            raise ValueError(f"line {number}: level {level}: one of {', '.join(LEVELS)}")
        if hashed == "-" and any(token.name == name and token.digest == "-" for token in found):
            raise ValueError(f"line {number}: {name} is named twice with -")
        found.append(Token(name, level, hashed))
    return tuple(found)


def read(path: str) -> tuple[Token, ...]:
    """The tokens in a file that only its owner may read. Raises ValueError with what to do."""
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ValueError(f"{path} has mode {mode:04o}, which lets others in; run chmod 600 {path}")
    if len(data) > LARGEST:
        raise ValueError(f"{path} is larger than {LARGEST} bytes")
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def token_file(text: str) -> str:
    """A path, as it was written, of a file of tokens."""
    read(text)
    return text


def find(tokens: tuple[Token, ...], token: str) -> Token | None:
    """Whose token that is. All lines are compared, each in constant time."""
    hashed, found = digest(token), None
    for each in tokens:
        if hmac.compare_digest(each.digest, hashed):
            found = each
    return found if len(token) >= SHORTEST else None
