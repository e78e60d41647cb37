"""Long streams move in the kernel: from one socket into a pipe, from the pipe into another socket, never through us.

A `Flow` takes the place of a source's `doRead`. Whatever is not plain moving (the end of the body or of the
stream, nothing there, a sink that is closing, no pipe to be had) ends the flow and is left to the ordinary path,
`recv` and `dataReceived`, which may begin another one. So the ordinary path sees every end, and the last bytes
of every body.

Bytes that the sink does not take stay in the pipe. If they are many the sink's producer is paused, as for bytes
that wait in its buffer, and the source is not read until the pipe is empty: back-pressure and deadlines are those
of the ordinary path. What is written to the sink meanwhile waits behind them. A flow has a pipe only while bytes
are in it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import termios
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.internet import main, tcp
from twisted.logger import Logger

LONG = 256 * 1024
"""Bytes of a body that are still to come, or that have come through a tunnel in a row, for which it begins."""
TAIL = 16 * 1024
"""The last bytes of a body, which go the ordinary way."""
SIZE = 512 * 1024
"""Bytes that a pipe has room for. What comes in small pieces takes more of it than its bytes."""
STRIDE = 128 * 1024
"""Bytes that are in a pipe at most, when the sink takes none of them."""
AHEAD = 256 * 1024
"""Bytes more that are taken at once for a sink which has sent all it had: its kernel takes those (decision 11)."""
ENOUGH = 64 * 1024
"""With so many the source is held back, as it is by a transport's buffer. A pipe with less room is not worth it."""
SHARE = 512 * 1024
"""Bytes that a stream moves in one turn of the reactor: others want their turn, too."""
MUCH = 16 * 1024
"""Bytes at once that count for a row."""
LITTLE = 4 * 1024
"""Bytes in a turn with which a tunnel goes back to the ordinary way."""
SPARE = 32
"""Empty pipes that are kept."""

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_REFUSALS = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)
"""Errors that are about splicing, not about the connection."""

_log = Logger()


class Pipe:
    """A pipe of the kernel, with `held` bytes in it. Raises OSError when there is none to be had."""

    __slots__ = ("_in", "_out", "held")

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        try:
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, SIZE)
        except OSError:  # this user's pipes hold enough (pipe-user-pages-soft): it stays as it is
            if fcntl.fcntl(self._in, fcntl.F_GETPIPE_SZ) < ENOUGH:
                self.close()
                raise

    def fill(self, skt: Any, size: int) -> int:
        """Take up to `size` bytes out of a socket; 0 at its end."""
        size = os.splice(skt.fileno(), self._in, size, flags=_FLAGS)
        self.held += size
        return size

    def drain(self, skt: Any) -> None:
        """Give a socket what it takes."""
        self.held -= os.splice(self._out, skt.fileno(), self.held, flags=_FLAGS)

    def close(self) -> None:
        """With whatever is in it."""
        os.close(self._in)
        os.close(self._out)


class Pipes:
    """The pipes that flows borrow. Some are kept while there are flows; without any, none is open."""

    def __init__(self, make: Callable[[], Any] = Pipe) -> None:
        self._make = make
        self._spare: list[Any] = []
        self._flows = 0
        self.usable = True
        """False when the kernel has refused to splice."""

    def take(self) -> Any:
        """An empty pipe, or None if open files lack."""
        if self._spare:
            return self._spare.pop()
        try:
            return self._make()
        except OSError:
            return None

    def give(self, pipe: Any) -> None:
        """Done with it: it is kept if it is empty and somebody may want it."""
        if pipe.held or not self._flows or len(self._spare) >= SPARE:
            pipe.close()
        else:
            self._spare.append(pipe)

    def refused(self, error: OSError) -> None:
        """The kernel does not splice such sockets, and will not do so later."""
        self.usable = False
        _log.info("the kernel does not splice: {error}", event="no-splice", error=str(error))

    def begun(self) -> None:
        """A flow has begun."""
        self._flows += 1

    def ended(self) -> None:
        """A flow has ended; if it was the last one, nobody needs a pipe."""
        self._flows -= 1
        while self._spare and not self._flows:
            self._spare.pop().close()


class Body(Protocol):
    """What is to be moved."""

    @property
    def left(self) -> int:
        """Bytes that are known to come."""

    def skip(self, size: int) -> None:
        """So many of them have been moved."""


class Flow:
    """Moves a body from the transport `source` to the transport `sink`; `moved` hears how many bytes each time.

    Less than `least` bytes in a turn end it.
    """

    __slots__ = ("_body", "_least", "_moved", "_pipe", "_pipes", "_sink", "_source")

    def __init__(
        self, pipes: Pipes, source: Any, sink: Any, body: Body, moved: Callable[[int], None], least: int
    ) -> None:
        self._pipes = pipes
        self._source = source
        self._sink = sink
        self._body = body
        self._moved = moved
        self._least = least
        self._pipe: Any = None
        """The pipe, while bytes wait in it for the sink."""
        source.doRead = self.read
        source.outflow = self
        pipes.begun()

    @property
    def held(self) -> int:
        """Bytes that wait for the sink."""
        return 0 if self._pipe is None else int(self._pipe.held)

    # -- the source ------------------------------------------------------------------------

    def read(self) -> Any:
        """The source's `doRead`."""
        sink = self._sink
        if not sink.connected or sink.disconnecting or sink._writeDisconnecting or sink._aborting:
            return self._leave()
        sink.flush()
        pipe = self._pipe
        if sink.dataBuffer or sink._tempDataLen or sink.inflow not in (None, self):  # that must go out first
            self._hold()
            return None
        if pipe is None:
            pipe = self._pipes.take()
            if pipe is None:
                return self._leave()
        elif pipe.held >= ENOUGH:  # somebody else let it be read
            self._hold()
            return None
        moved = 0
        try:
            moved = self._pump(pipe)
        except OSError as error:
            if error.errno in _REFUSALS:
                self._pipes.refused(error)
            else:
                self.stop()
                return main.CONNECTION_LOST
        finally:
            if self._pipe is None:
                self._pipes.give(pipe)
        if not moved:
            return self._leave()
        if moved < self._least:
            self.stop()
        return None

    def _pump(self, pipe: Any) -> int:
        """Move what is there, up to a bound; how much that was. What the sink does not take makes the source wait."""
        source, sink, body, total = self._source.socket, self._sink.socket, self._body, 0
        while total < SHARE:
            most = STRIDE + AHEAD if not pipe.held and has_sent_all(sink) else STRIDE - pipe.held
            size = min(most, body.left - TAIL)
            if size <= 0:
                break
            try:
                size = pipe.fill(source, size)
            except BlockingIOError:
                break
            if not size:
                break
            total += size
            body.skip(size)
            self._moved(size)
            try:
                pipe.drain(sink)
            except OSError:
                pass  # full, or broken: that is found out when it can be written to again
            if pipe.held and self._pipe is None:
                self._pipe = pipe
                self._block()
            if pipe.held >= ENOUGH:
                self._hold()
                break
            if size <= STRIDE // 4:  # the source has no more at present
                break
        return total

    def _leave(self) -> Any:
        """Go the ordinary way. `recv` knows better, too, what it means that nothing came: urgent data or the end."""
        self.stop()
        return self._source.doRead()

    def stop(self) -> None:
        """Take nothing more. What is in the pipe still goes to the sink."""
        source = self._source
        source.outflow = None
        if source.doRead == self.read:  # else it is being aborted
            del source.doRead
        self._pipes.ended()

    # -- the sink --------------------------------------------------------------------------

    def _block(self) -> None:
        sink = self._sink
        sink.inflow = self
        sink.doWrite = self.write
        sink.write = partial(tcp.Connection.write, sink)  # behind what is in the pipe
        sink.startWriting()

    def _hold(self) -> None:
        """The source waits until the sink has nothing queued and nothing is in the pipe."""
        sink = self._sink
        sink.producerPaused = True
        sink.producer.pauseProducing()

    def write(self) -> Any:
        """The sink's `doWrite`, while something is in the pipe."""
        sink, pipe = self._sink, self._pipe
        try:
            pipe.drain(sink.socket)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if pipe.held:
            return None
        self.unblock()
        return sink.doWrite()  # what was queued since; the producer goes on, or the connection is closed

    def unblock(self) -> None:
        """Nothing is in the pipe for the sink any more, or nobody takes it."""
        sink = self._sink
        sink.inflow = None
        if sink.doWrite == self.write:  # else it is being aborted
            del sink.doWrite
        del sink.write
        pipe, self._pipe = self._pipe, None
        self._pipes.give(pipe)


def has_sent_all(skt: Any) -> bool:
    """Has the peer's kernel got everything that ours was given?"""
    try:
        return fcntl.ioctl(skt.fileno(), termios.TIOCOUTQ, bytes(4)) == bytes(4)
    except OSError:
        return False


class Endless:
    """What a tunnel moves: nobody knows how much."""

    left = 1 << 62

    def skip(self, size: int) -> None:
        """It is always as much."""


ENDLESS = Endless()


def splice(
    pipes: Pipes | None, source: Any, sink: Any, body: Body, moved: Callable[[int], None], least: int = 0
) -> None:
    """Let a body move in the kernel from now on, if both transports are plain TCP and the kernel does it."""
    if pipes is not None and pipes.usable and isinstance(source, tcp.Connection) and isinstance(sink, tcp.Connection):
        Flow(pipes, source, sink, body, moved, least)


class Row:
    """One direction of a tunnel: spliced once it has brought much, without a pause, and until it brings little."""

    __slots__ = ("_bytes", "_moved", "_pipes", "_sink", "_source")

    def __init__(self, pipes: Pipes, source: Any, sink: Any, moved: Callable[[int], None]) -> None:
        self._pipes = pipes
        self._source = source
        self._sink = sink
        self._moved = moved
        self._bytes = 0

    def came(self, size: int) -> None:
        """So many bytes have come at once, and were passed on the ordinary way."""
        if size < MUCH:
            self._bytes = 0
            return
        self._bytes += size
        if self._bytes >= LONG:
            self._bytes = 0
            splice(self._pipes, self._source, self._sink, ENDLESS, self._moved, LITTLE)
