"""The whole wiring, read top to bottom: from the command line to one tree of services."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python import usage

from lbservice import config
from lbservice.core.settings import Settings
from lbservice.errors import ConfigError, StartError
from lbservice.reactor import use_direct_dispatch, use_monotonic_time
from lbservice.services.balancer import Balancer
from lbservice.services.control import Control
from lbservice.services.eventlog import EventLog
from lbservice.services.openfiles import bounded, most_clients
from lbservice.services.signals import Signals
from lbservice.services.statefile import StateFile


class Options(usage.Options):
    """`twistd loadbalancer` and its options."""

    synopsis = "[options]"
    longdesc = "A load balancer for HTTP and TCP, configured by an ini file. See `lbservice --help` for its tools."
    optParameters = [["config", "c", "lb.ini", "the configuration file"]]
    optFlags = [["check", None, "only say whether the configuration is valid, then exit (status 1 if not)"]]

    def postOptions(self) -> None:
        try:
            settings = self["settings"] = config.load(self["config"])
        except ConfigError as error:
            sys.exit(str(error))
        if self["check"]:
            print(f"{settings.file}: ok")
            sys.exit(0)


def makeService(options: Options) -> MultiService:
    """The service for twistd, twist and lb.tac."""
    from twisted.internet import reactor  # the one place: everything else is handed its clock and network

    use_monotonic_time(reactor)
    use_direct_dispatch(reactor)
    return make_tree(options["settings"], reactor)


def make_tree(settings: Settings, reactor: Any) -> MultiService:
    """The tree of services. Children start in this order and stop in the opposite one."""
    from lbservice.admin.manhole import manhole
    from lbservice.proxy.transport import Network

    most = most_clients()
    settings = bounded(settings, most)
    tree = _Tree()
    eventlog = EventLog(settings.log, reactor)
    network = Network(reactor, write_through=settings.write_through, splice=settings.splice)
    state = StateFile(settings.state_file, reactor) if settings.state_file else None
    balancer = Balancer(state.restore(settings) if state else settings, eventlog, network, reactor)
    control = Control(balancer, most)
    control.loaded = settings
    eventlog.setServiceParent(tree)
    if state is not None:
        state.attend(control)
        state.setServiceParent(tree)
    if settings.admin is not None:
        from lbservice.admin.api.service import Api  # twisted.web takes its time and memory

        # Before the balancer, and so stopped after it: /ready says no, and sessions can be seen, while it drains.
        Api(settings.admin, control, reactor).setServiceParent(tree)
    balancer.setServiceParent(tree)
    if settings.manhole is not None:
        manhole(settings.manhole, control, reactor).setServiceParent(tree)
    Signals(control, reactor).setServiceParent(tree)
    return tree


class _Tree(MultiService):
    """A start that fails is said in one line, not in a traceback; a stop takes one child after the other.

    So the log, which is started first, is still there when the last connection ends.
    """

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except StartError as error:
            _refuse_to_start(error)

    def startService(self) -> None:
        try:
            super().startService()
        except StartError as error:
            _refuse_to_start(error)

    def stopService(self) -> Deferred[None]:
        self.running = False
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService)


def _refuse_to_start(error: StartError) -> NoReturn:
    """Say it where people look: on the terminal, and in the log of twistd, whose daemons have no terminal.

    A daemon's parent waits to hear how the start went, and twistd tells it of an Exception only:
    after a SystemExit it would wait for good.
    """
    Logger(namespace="lbservice").critical("{error}", error=str(error))
    if _has_no_terminal():
        raise error
    print(f"lbservice: {error}", file=sys.__stderr__)
    sys.exit(1)


def _has_no_terminal() -> bool:
    """Has twistd closed standard error, as it does for a daemon?"""
    try:
        return os.fstat(2).st_rdev == os.stat(os.devnull).st_rdev
    except OSError:
        return True
