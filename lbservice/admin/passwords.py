"""Passwords for the shell over ssh and telnet: a file of bcrypt hashes, and who has failed how often.

The file has a line NAME:HASH for each operator; `python -m lbservice.admin.passwords NAME` makes one, and so does
`htpasswd -nB NAME`. It is read anew at each login, so whoever is taken out of it is out.
"""

from __future__ import annotations

import os
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from getpass import getpass
from typing import Any

import bcrypt
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from lbservice.admin.keys import printable
from lbservice.errors import StartError
from lbservice.filemode import status_trouble

_LINE = re.compile(rb"([A-Za-z0-9_.@+-]{1,64}):(\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53})")
COSTS = range(8, 16)
"""The work of one try is 2 to that power: less is guessed too fast, 15 takes seconds."""
LONGEST = 72
"""Bytes of a password that bcrypt looks at."""
NOBODY = b"$2b$12$" + b"." * 53
"""What a password of an unknown name is compared with, so that it takes as long."""


class PasswordFile:
    """Names and hashes."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> dict[bytes, bytes]:
        """Name -> hash. Raises StartError when others may read or write the file, and for a line that cannot be."""
        where = f"[manhole] passwords = {self.path}"
        try:
            with open(self.path, "rb") as file:
                trouble = status_trouble(self.path, os.fstat(file.fileno()))
                lines = file.read(1024 * 1024).splitlines()
        except OSError as error:
            raise StartError(f"{where}: {error.strerror}") from error
        if trouble:
            raise StartError(f"{where}: {trouble}")
        found: dict[bytes, bytes] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith(b"#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise StartError(
                    f"{where}: line {number} is no NAME:HASH with a hash of bcrypt; "
                    "make one with: python -m lbservice.admin.passwords NAME"
                )
            if int(match[3]) not in COSTS:
                raise StartError(f"{where}: line {number}: the cost of the hash is {match[3].decode()}; take 12")
            if match[1] in found:
                raise StartError(f"{where}: line {number}: {match[1].decode()} is there already")
            found[match[1]] = match[2]
        return found


class Failures:
    """How often an address has failed lately: each failure doubles the time that it has to wait, up to `LONGEST`."""

    LONGEST = 16.0
    FORGET = 600.0
    """Seconds after which a failure is forgotten."""
    ADDRESSES = 1024

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until it may try again."""
        times, at = self._failed.get(address, (0, 0.0))
        return max(0.0, at + self._delay(times) - self._seconds()) if times else 0.0

    def failed(self, address: str) -> float:
        """One more; the seconds that it has to wait now."""
        now = self._seconds()
        times, at = self._failed.pop(address, (0, now))
        times = times + 1 if now - at < self.FORGET else 1
        self._failed[address] = times, now
        if len(self._failed) > self.ADDRESSES:
            self._failed.popitem(last=False)
        return self._delay(times)

    def succeeded(self, address: str) -> None:
        """What was is forgotten."""
        self._failed.pop(address, None)

    def _delay(self, times: int) -> float:
        return float(min(self.LONGEST, 2.0 ** min(times - 1, 10)))


Compare = Callable[[bytes, bytes], "Deferred[bool]"]
"""Password and hash -> are they a pair? Takes a quarter of a second, so it must not be the reactor's."""


class Passwords:
    """Who may come in with a password. One is compared at a time, and few may wait for that."""

    WAITING = 8
    log = Logger()

    def __init__(self, file: PasswordFile, reactor: Any, compare: Compare | None = None) -> None:
        self._file = file
        self._reactor = reactor
        self._compare = compare or self._in_a_thread
        self._failures = Failures(reactor.seconds)
        self._line: list[Deferred[None]] = []
        self._busy = False

    async def check(self, name: bytes, password: bytes, address: str, via: str) -> bool:
        """Does the password belong to the name? A no takes a second or more, and is logged."""
        why = "wrong password"
        if self._failures.wait(address):
            why = "tried again too soon"
        elif len(self._line) >= self.WAITING:
            why = "too many logins at a time"
        elif await self._is_right(name, password):
            self._failures.succeeded(address)
            return True
        delay = self._failures.failed(address)
        self.log.warn(
            "shell refused to {name} ({via} password) from {address}: {why}",
            event="shell-refused",
            name=printable(name),
            via=via,
            address=address,
            why=why,
        )
        later: Deferred[None] = Deferred()
        self._reactor.callLater(delay, later.callback, None)
        await later
        return False

    async def _is_right(self, name: bytes, password: bytes) -> bool:
        if self._busy:
            turn: Deferred[None] = Deferred()
            self._line.append(turn)
            await turn
        self._busy = True
        try:
            known = self._file.read()
            hashed = known.get(name, NOBODY)
            if len(password) > LONGEST or b"\0" in password:  # bcrypt would refuse, or look at a part of it
                password, hashed = b"", NOBODY
            return await self._compare(password, hashed) and hashed is not NOBODY
        except StartError as error:
            self.log.error("password login refused: {reason}", event="shell-refused", reason=str(error))
            return False
        finally:
            self._busy = False
            if self._line:
                self._line.pop(0).callback(None)

    def _in_a_thread(self, password: bytes, hashed: bytes) -> Deferred[bool]:
        pool = self._reactor.getThreadPool()
        compared: Deferred[bool] = deferToThreadPool(self._reactor, pool, bcrypt.checkpw, password, hashed)
        return compared


def main() -> None:
    """Ask for a password, and print the line for the file."""
    if len(sys.argv) != 2 or not re.fullmatch(r"[A-Za-z0-9_.@+-]{1,64}", sys.argv[1]):
        sys.exit("usage: python -m lbservice.admin.passwords NAME >> FILE")
    password = getpass("Password: ").encode()
    if not 8 <= len(password) <= LONGEST or b"\0" in password:
        sys.exit(f"a password has 8 to {LONGEST} bytes")
    if getpass("Again: ").encode() != password:
        sys.exit("that was another one")
    print(f"{sys.argv[1]}:{bcrypt.hashpw(password, bcrypt.gensalt(12)).decode()}")


if __name__ == "__main__":
    main()
