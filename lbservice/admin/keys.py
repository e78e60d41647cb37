"""The two key files of the ssh manhole: its own host key, and the keys of those whom it lets in."""

from __future__ import annotations

import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.checkers import IAuthorizedKeysDB, SSHPublicKeyChecker
from twisted.conch.error import ValidPublicKey
from twisted.conch.ssh.keys import FingerprintFormats, Key
from twisted.cred.credentials import ISSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lbservice.errors import StartError
from lbservice.filemode import status_trouble, written_by_others

SIGNATURES = (
    *(b"ssh-ed25519", b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"),
    *(b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521", b"rsa-sha2-512", b"rsa-sha2-256"),
)
"""The signatures of users that are good enough: none with SHA-1, as `ssh-rsa` and `ssh-dss` have it."""
SHORTEST_RSA = 2048
"""Bits."""


def fingerprint(blob: bytes) -> str:
    """A public key as `ssh-keygen -l` names it: `SHA256:...` without padding."""
    digest = Key.fromString(blob).fingerprint(FingerprintFormats.SHA256_BASE64)
    return f"SHA256:{digest.rstrip('=')}"


def printable(name: bytes) -> str:
    """A name that a stranger chose, fit for a log line."""
    text = name[:64].decode("ascii", "backslashreplace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def host_key(path: str) -> Key:
    """The private key in the file, made with mode 0600 when there is no such file.

    Raises StartError when the file may be read by others, or cannot be used.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return _make_host_key(path)
    except OSError as error:
        raise StartError(f"[manhole] host-key = {path}: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        if trouble := status_trouble(path, os.fstat(descriptor)):
            raise StartError(f"[manhole] host-key = {path}: {trouble}, or remove it to get a new one")
        try:
            key: Key = Key.fromString(file.read())
        except Exception as error:  # conch and cryptography raise many kinds
            raise StartError(f"[manhole] host-key = {path}: is no private key: {error}") from error
    if key.isPublic():
        raise StartError(f"[manhole] host-key = {path}: is a public key; name the private one")
    return key


def _make_host_key(path: str) -> Key:
    key = Key(Ed25519PrivateKey.generate())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(key.toString("openssh"))
    except OSError as error:
        raise StartError(f"[manhole] host-key = {path}: cannot be made: {error.strerror}") from error
    return key


@implementer(IAuthorizedKeysDB)
class AuthorizedKeys:
    """The keys in one file in OpenSSH's format, read anew at each login. Any user name will do."""

    log = Logger()

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> list[Key]:
        """The keys; raises StartError when the file cannot be read or others may write to it.

        A line that is no plain key is left out and logged: options before the key (`from=`,
        `command=`) are promises that this service would not keep.
        """
        try:
            with open(self.path, "rb") as file:
                trouble = written_by_others(self.path, os.fstat(file.fileno()))
                lines = file.read().splitlines()
        except OSError as error:
            raise StartError(f"[manhole] authorized-keys = {self.path}: {error.strerror}") from error
        if trouble:
            raise StartError(f"[manhole] authorized-keys = {self.path}: {trouble}")
        return [key for number, line in enumerate(lines, 1) if (key := self._key(number, line.strip()))]

    def _key(self, number: int, line: bytes) -> Key | None:
        if not line or line.startswith(b"#"):
            return None
        try:
            key: Key = Key.fromString(line)
            if key.isPublic() and not (key.type() == "RSA" and key.size() < SHORTEST_RSA):
                return key
            why = f"an RSA key of less than {SHORTEST_RSA} bits" if key.isPublic() else "a private key"
        except Exception as error:  # BadKeyError, and whatever a damaged line leads to
            why = str(error) or type(error).__name__
        self.log.warn(
            "{path}:{line}: ignored, write KEY-TYPE KEY without options ({why})",
            event="shell-key-ignored",
            path=self.path,
            line=number,
            why=why,
        )
        return None

    def getAuthorizedKeys(self, username: bytes) -> list[Key]:
        try:
            return self.read()
        except StartError as error:
            self.log.error("ssh login refused: {reason}", event="shell-refused", reason=str(error))
            return []


class KeyChecker(SSHPublicKeyChecker):
    """Public keys only; the avatar's id is the actor, `NAME (ssh SHA256:...)`."""

    log = Logger()

    def __init__(self, authorized: Any) -> None:  # an IAuthorizedKeysDB
        super().__init__(authorized)

    def requestAvatarId(self, credentials: ISSHPrivateKey) -> Deferred[str]:
        actor = f"{printable(credentials.username)} (ssh {fingerprint(credentials.blob)})"

        def refused(failure: Failure) -> Failure:
            # ValidPublicKey only says that the client has yet to sign.
            if failure.check(UnauthorizedLogin) and not failure.check(ValidPublicKey):
                self.log.warn("shell refused to {actor}", event="shell-refused", actor=actor)
            return failure

        checked: Deferred[bytes]
        signature: bytes = credentials.signature or b""
        if signature and signature[4 : 4 + int.from_bytes(signature[:4])] not in SIGNATURES:
            checked = fail(UnauthorizedLogin("no signature that is good enough"))
        else:
            checked = super().requestAvatarId(credentials)
        return checked.addCallbacks(lambda _: actor, refused)
