"""Who asks, and what he may."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from lbservice import tokens
from lbservice.admin.api.problem import Problem
from lbservice.admin.api.route import Level
from lbservice.admin.socketfile import peer
from lbservice.core.settings import AdminListen
from lbservice.errors import StartError

_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9._~+/-]+=*) *")


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody, as the log names him, and what he may do."""

    actor: str
    level: Level


class TokenFile:
    """The tokens in a file, which is read again when it has changed: so a token can be taken back at once."""

    log = Logger()

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: object = None
        self._tokens: tuple[tokens.Token, ...] = ()

    def start(self) -> None:
        """Raises StartError if the file cannot be used."""
        try:
            self._read()
        except (OSError, ValueError) as error:
            raise StartError(f"[admin] tokens = {self.path}: {error}") from error

    def tokens(self) -> tuple[tokens.Token, ...]:
        """Those of now. Nobody's, if the file has become unusable."""
        try:
            self._read()
        except (OSError, ValueError) as error:
            self.log.error(
                "tokens {path}: {reason}; nobody is let in by a token",
                event="tokens-unusable",
                path=self.path,
                reason=str(error),
            )
            return ()
        return self._tokens

    def _read(self) -> None:
        now = os.stat(self.path)
        seen = now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns
        if seen != self._seen:
            self._seen = None
            self._tokens = tokens.read(self.path)
            self._seen = seen


class Login:
    """Who is at the other end of a connection to one address of [admin]."""

    def __init__(self, listen: AdminListen, file: TokenFile | None) -> None:
        self._listen = listen
        self._file = file

    def unknown(self, transport: Any) -> str:
        """How somebody is called who was not let in, or has not been asked yet."""
        if self._listen.unix is not None:
            return peer(transport.socket)
        return f"somebody at {address(transport)}"

    def who(self, transport: Any, authorization: list[str]) -> Who:
        """Raises Problem 401 for who is not known."""
        if self._listen.unix is not None:
            # Only who may open the file has come so far, and the kernel knows him.
            return Who(peer(transport.socket), Level.ADMIN)
        if self._listen.client_ca is not None:
            return self._by_certificate(transport)
        if self._file is not None:
            return self._by_token(transport, authorization)
        return Who(f"somebody at {address(transport)}", Level.ADMIN)

    def _by_certificate(self, transport: Any) -> Who:
        """The common name is who he is; a line of the file with that name, and `-`, may say what he may."""
        certificate = transport.getPeerCertificate()
        name = certificate.get_subject().commonName if certificate is not None else None
        if not name or not name.isprintable() or len(name) > 64:
            raise Problem(401, "the certificate has no common name that could be written down")
        level = Level.ADMIN
        for token in self._file.tokens() if self._file else ():
            if token.name == name and token.digest == "-":
                level = Level[token.level.upper()]
        return Who(f"{name} (certificate) at {address(transport)}", level)

    def _by_token(self, transport: Any, authorization: list[str]) -> Who:
        assert self._file is not None
        challenge = {"WWW-Authenticate": 'Bearer realm="lbservice"'}
        if not authorization:
            raise Problem(401, "a token is needed: Authorization: Bearer TOKEN", challenge)
        match = _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None
        token = tokens.find(self._file.tokens(), match[1]) if match else None
        if token is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="lbservice", error="invalid_token"'}
            raise Problem(401, "this token is not known; lbservice token NAME LEVEL makes one", challenge)
        return Who(f"{token.name} (token) at {address(transport)}", Level[token.level.upper()])


def address(transport: Any) -> str:
    """Where the client is."""
    return str(getattr(transport.getPeer(), "host", "an unknown address"))
