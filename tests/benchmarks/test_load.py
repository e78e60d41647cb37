"""What is read from wrk's words, and what the generators of our own put on the wire."""

from __future__ import annotations

import socket
from typing import cast

import pytest

from benchmarks.load import read_wrk
from benchmarks.processes import CannotRun
from benchmarks.sink import BUFFER, request
from benchmarks.stalls import seen_inside
from benchmarks.upload import ANSWER, request_file

WRK = """\
Running 1s test @ http://127.0.0.1:36233/
  1 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   839.77us  438.11us   9.87ms   93.14%
    Req/Sec    60.90k     3.98k   65.41k    80.00%
  Latency Distribution
     50%  754.00us
     75%    0.94ms
     90%    1.15ms
     99%    1.02s
  60597 requests in 1.00s, 1.46GB read
Requests/sec:  60454.51
Transfer/sec:      8.36MB
"""


def test_wrk_in_milliseconds() -> None:
    load = read_wrk(WRK, "nginx")
    assert (load.requests, load.transfers, load.lines, load.per_second) == (60597, 60597, 60597, 60454.51)
    assert (load.p50_ms, load.p99_ms, load.max_ms) == pytest.approx((0.754, 1020, 9.87))


def test_transfers_are_counted_by_bytes() -> None:
    load = read_wrk(WRK, "nginx", size=10_000_000, lines=4)
    assert load.transfers == pytest.approx(156.77, abs=0.01)
    assert (load.requests, load.lines) == (60597, 4)


@pytest.mark.parametrize(
    "line", ["  Socket errors: connect 0, read 3, write 0, timeout 0", "  Non-2xx or 3xx responses: 7"]
)
def test_a_run_with_failures_is_no_result(line: str) -> None:
    with pytest.raises(CannotRun, match="nginx failed requests"):
        read_wrk(WRK.replace("Requests/sec", f"  {line}\nRequests/sec"), "nginx")


def test_a_run_without_answers_is_no_result() -> None:
    with pytest.raises(CannotRun, match="answered nothing"):
        read_wrk(WRK.replace("60597 requests", "0 requests"), "nginx")


def test_an_answer_that_is_not_understood_is_no_result() -> None:
    with pytest.raises(CannotRun, match="wrk answered without"):
        read_wrk("wrk: unable to connect", "nginx")


@pytest.mark.parametrize("chunk", [0, 32 * 1024])
@pytest.mark.parametrize("last", [1, 3, 4096])
def test_the_sink_reads_what_an_upload_sends(chunk: int, last: int) -> None:
    # The end comes in small pieces, which is where the mark of a chunked body's end is looked for.
    with request_file(40_000, chunk) as (file, length):
        file.seek(0)
        data = file.read()
    assert len(data) == length
    pieces = [data[:-20], *(data[at : at + last] for at in range(length - 20, length, last))]
    client = PlayedSocket(pieces)
    received = request(cast(socket.socket, client), memoryview(bytearray(BUFFER)))
    assert received == length - data.index(b"\r\n\r\n") - 4
    assert not client.pieces


class PlayedSocket:
    """Gives one piece for each call of recv_into."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def recv_into(self, buffer: memoryview, size: int = 0) -> int:
        piece = self.pieces.pop(0)
        assert len(piece) <= (size or len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def test_an_upload_that_breaks_off_is_not_answered() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nhalf")
        assert request(ours, memoryview(bytearray(BUFFER))) == -1


@pytest.mark.parametrize(
    "head",
    [b"content-length: 9\r\n", b"Date: x\r\nContent-Length: 9\r\nVia: 1.1 x\r\n", b"content-length:9\r\nA: b\r\n"],
)
def test_the_answer_to_an_upload_is_found_wherever_its_length_stands(head: bytes) -> None:
    match = ANSWER.match(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n10000000\n")
    assert match is not None
    assert (match[1], match[2]) == (b"9", b"10000000\n")


def test_stalls_before_and_after_the_run_do_not_count() -> None:
    samples = [(0.5, 0.9, 0.9), (1.0, 0.001, 0.001), (2.0, 0.010, 0.002), (3.5, 0.9, 0.9)]
    found = seen_inside({"samples": samples, "pauses": [(0.9, 2, 0.5), (1.5, 0, 0.004)]}, 1.0, 3.0)
    assert (found["late_max_ms"], found["own_max_ms"], found["gc_max_ms"]) == pytest.approx((10, 2, 4))
    assert (found["samples"], found["gc_count"]) == (2, 1)
