"""One of the servers of `lbservice demo`: answers its name, and ends when its standard input does.

So it never outlives the demo, however that ends. Prints the port that it was given.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site


class Named(Resource):
    """Every path answers the server's name; /health says ok."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name.encode("ascii")

    def render(self, request: Request) -> bytes:
        request.setHeader(b"X-Served-By", self.name)
        request.setHeader(b"Content-Type", b"text/plain")
        if request.path == b"/health":
            return b"ok\n"
        return b"%s from %s\n" % (request.path, self.name)


class UntilEnd(Protocol):
    """Standard input; its end is ours."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self.reactor.running:
            self.reactor.stop()


def main(name: str) -> None:
    """Serve on a free port until standard input ends."""
    from twisted.internet import reactor as default_reactor

    reactor: Any = default_reactor
    port = reactor.listenTCP(0, Site(Named(name)), interface="127.0.0.1")
    reactor.callWhenRunning(lambda: print(port.getHost().port, flush=True))
    StandardIO(UntilEnd(reactor), reactor=reactor)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
