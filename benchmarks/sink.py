"""Servers for uploads: read a whole body, however large, and answer with the number of bytes that came.

    python -m benchmarks.sink PORT ...

A thread for each connection, large reads, nothing kept. A chunked body ends with what no body that
the benchmark sends holds, so its chunks need not be parsed; its count includes their framing.
"""

from __future__ import annotations

import re
import socket
import sys
import threading

BUFFER = 1024 * 1024
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
LAST_CHUNK = b"\r\n0\r\n\r\n"


def serve(port: int) -> None:
    """Accept connections of 127.0.0.1 for good."""
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=converse, args=(client,), daemon=True).start()


def converse(client: socket.socket) -> None:
    """One connection: requests one after the other, until it is closed."""
    buffer = memoryview(bytearray(BUFFER))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client:
        while True:
            try:
                received = request(client, buffer)
                if received < 0:
                    return
                body = b"%d\n" % received
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            except OSError:
                return


def request(client: socket.socket, buffer: memoryview) -> int:
    """Read one request; the bytes of its body as they came over the wire, or -1 when the client has closed."""
    head = b""
    while b"\r\n\r\n" not in head:
        count = client.recv_into(buffer, 65536)
        if not count:
            return -1
        head += bytes(buffer[:count])
    head, _, rest = head.partition(b"\r\n\r\n")
    received = len(rest)
    if CHUNKED.search(head):
        tail = rest[-len(LAST_CHUNK) :]
        while tail != LAST_CHUNK:
            count = client.recv_into(buffer)
            if not count:
                return -1
            received += count
            tail = (tail + bytes(buffer[max(0, count - len(LAST_CHUNK)) : count]))[-len(LAST_CHUNK) :]
        return received
    found = LENGTH.search(head)
    length = int(found[1]) if found else 0
    while received < length:
        count = client.recv_into(buffer, min(BUFFER, length - received))
        if not count:
            return -1
        received += count
    return received


if __name__ == "__main__":
    threads = [threading.Thread(target=serve, args=(int(port),), daemon=True) for port in sys.argv[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
