"""The other end of the manhole's unix socket: what `lbservice shell` does."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import termios
import tty
from contextlib import suppress

MARK = b"\0"
"""Before a script, behind it, before its output and behind that; see `lbservice.admin.unix`."""

LEAVE = b"\x1d"
"""Ctrl-]: leave at once, also when the service no longer answers."""


class Unreachable(Exception):
    """There is no service at the socket, or it went away."""


def connect(path: str) -> socket.socket:
    """A connection to the manhole; raises Unreachable with what to do about it."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except FileNotFoundError:
        why = "there is no such socket; start the service (lbservice run), or go to the folder that it was started in"
    except ConnectionRefusedError:
        why = "nobody listens there any more; start the service (lbservice run)"
    except PermissionError:
        why = "it belongs to another user; run this as the user of the service"
    except OSError as error:
        why = error.strerror or str(error)
    else:
        return connection
    connection.close()
    raise Unreachable(f"cannot reach the service at unix:{path}: {why}")


def run_script(path: str, script: str) -> tuple[str, str]:
    """Run a text in the service: its output, and the error that ended it ("" if none).

    Raises Unreachable when the service goes away before it has answered.
    """
    answer = b""
    with connect(path) as connection, suppress(ConnectionError):
        connection.sendall(MARK + script.replace("\0", "\\0").encode() + MARK)
        while data := connection.recv(65536):
            answer += data
    # greeting, output, error: neither of the first two contains a NUL
    parts = answer.split(MARK, 2)
    if len(parts) < 3:
        raise Unreachable(f"the service at unix:{path} went away before it had answered")
    return parts[1].decode(errors="replace"), parts[2].decode(errors="replace")


def converse(path: str) -> None:
    """Tie this terminal to the shell until either side ends it."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    with connect(path) as connection:
        before = termios.tcgetattr(keyboard)

        def tell_size(*_: object) -> None:
            with suppress(OSError):
                size = os.get_terminal_size(screen)
                connection.sendall(f"\x1b[8;{size.lines};{size.columns}t".encode())  # as a terminal itself would

        winch = signal.signal(signal.SIGWINCH, tell_size)
        try:
            tty.setraw(keyboard)
            tell_size()
            _copy(connection, keyboard, screen)
        finally:
            signal.signal(signal.SIGWINCH, winch)
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
            os.write(screen, b"\x1b[4l")  # insert mode off, should the service have had no time to


def _copy(connection: socket.socket, keyboard: int, screen: int) -> None:
    socket_number = connection.fileno()
    while True:
        ready, _, _ = select.select([socket_number, keyboard], [], [])
        if socket_number in ready:
            try:
                data = connection.recv(65536)
            except ConnectionError:
                return
            if not data:
                return
            while data:
                data = data[os.write(screen, data) :]
        if keyboard in ready:
            typed = os.read(keyboard, 4096)
            if not typed or LEAVE in typed:
                os.write(screen, b"\r\n")
                return
            try:
                connection.sendall(typed)
            except ConnectionError:
                return
