"""Unix sockets of ours: mode 0600, in a folder for their owner, what a dead process left taken away first."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import struct
from contextlib import suppress
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from lbservice.errors import StartError

LONGEST_PATH = 107
"""Bytes, as unix(7) has it for Linux."""


def peer(connection: socket.socket) -> str:
    """Who is at the other end, as the kernel saw it connect: `alice (uid 1000)`."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def listen(path: str, factory: Any, reactor: Any, section: str) -> Port:
    """Listen there; `section` is that of lb.ini which says so. Raises StartError if it cannot be."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise StartError(f"[{section}] listen = unix:{path}: too long, a socket's path has {LONGEST_PATH} bytes")
    make_folder(os.path.dirname(path), section)
    remove_stale(path, section)
    port = Port(os.fsencode(path), factory, mode=0o600, reactor=reactor)
    before = os.umask(0o177)  # so that there is no moment with another mode
    try:
        port.startListening()
    except CannotListenError as error:
        raise StartError(f"[{section}] listen = unix:{path}: {error.socketError}") from error
    finally:
        os.umask(before)
    return port


class Port(unix.Port):
    """A unix port that removes its socket file only while that is still its own.

    Twisted's fails, and never reports that it stopped, when somebody has removed the file.
    """

    def startListening(self) -> None:
        super().startListening()
        self.path = os.path.abspath(os.fsdecode(self._bindPath))
        self.made = os.stat(self.path)

    def connectionLost(self, reason: Failure) -> None:
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self.path), self.made):
                os.unlink(self.path)
        tcp.Port.connectionLost(self, reason)


def make_folder(folder: str, section: str) -> None:
    """The folder of the socket, for its owner only; one that is there is left as it is."""
    if not folder or os.path.isdir(folder):
        return
    before = os.umask(0o077)
    try:
        os.makedirs(folder, mode=0o700)
    except OSError as error:
        raise StartError(f"[{section}] the folder {folder} cannot be made: {error.strerror}") from error
    finally:
        os.umask(before)


def remove_stale(path: str, section: str) -> None:
    """Remove the socket that a dead process left. Anything else in its place is a StartError."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise StartError(f"[{section}] listen = unix:{path}: is there already and is no socket; move it away")
    except OSError:
        return  # nothing there, or nothing to be seen: bind will say so
    # A lock file with a process id would fool itself where ids repeat, in containers.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is somebody alive, too
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass
    raise StartError(
        f"[{section}] listen = unix:{path}: another process is listening there; stop it or choose another path"
    )
