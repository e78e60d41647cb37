"""From the running configuration to another one, in one step: what may fail is done before anything changes.

Whatever keeps its name keeps its object: health, counters and connections of a server, the queue of a backend, the
listeners of a frontend. Clients' connections go over to the new frontend between two requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.error import CannotListenError

from lbservice.core.backend import Backend
from lbservice.core.pick import Policy
from lbservice.core.settings import BackendSettings, Settings
from lbservice.errors import ControlError, StartError
from lbservice.proxy.listener import FrontendFactory

if TYPE_CHECKING:
    from lbservice.services.balancer import Balancer


@contextmanager
def cannot_listen(frontend: str) -> Iterator[None]:
    """What fails in this context is told as the mistake of a configuration."""
    try:
        yield
    except CannotListenError as error:
        where = f"{error.interface or '0.0.0.0'}:{error.port}"
        raise StartError(f"[frontend {frontend}] cannot listen on {where}: {error.socketError}") from error


POLICY = ("balance", "hash_balance_factor", "sticky", "sticky_key")
"""What makes a backend's policy; while all of it stays, so does the policy, with what it has learnt."""
AT_START = ("log", "splice", "write_through", "state_file", "manhole", "admin")
"""What is read once: a change of it is for the next start."""
CHECKS = ("check", "agent")
"""What says how a backend's servers are watched."""


class Transition:
    """The way from what runs to `target`. Make it, `prepare` it, and then `commit` or `forget` it, in one turn."""

    def __init__(self, balancer: Balancer, target: Settings) -> None:
        self.balancer = balancer
        self.target = target
        self._old = balancer.running_settings
        self._backends: dict[str, Backend] = {}
        """All that there will be; those that stay are the same."""
        self._policies: dict[str, Policy] = {}
        """New ones, by backend."""
        self._frontends: list[FrontendFactory] = []
        """New ones, and those that replace another of their name."""
        self._staying: list[FrontendFactory] = []
        self._free: dict[tuple[str, int], list[Any]] = {}
        """Listeners of frontends that are replaced or go, by address; what is taken over is taken out."""
        self._listeners: dict[str, list[Any]] = {}
        """Those of each new frontend, in the order of its addresses."""
        self._opened: list[Any] = []
        """Listeners that have been opened for it."""

    # -- what may fail -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Make everything that is new. Raises ControlError; nothing has changed then."""
        try:
            self._prepare_backends()
            self._prepare_frontends()
        except StartError as error:
            self.forget()
            raise ControlError(f"{error}; nothing was changed") from error
        except BaseException:
            self.forget()
            raise

    def forget(self) -> None:
        """It is not wanted: close what was opened."""
        for port in self._opened:
            with suppress(Exception):
                port.stopListening()

    def _prepare_backends(self) -> None:
        balancer = self.balancer
        for settings in self.target.backends:
            backend = balancer.backends.get(settings.name)
            if backend is None:
                backend = balancer.make_backend(replace(settings, servers=()))
            elif differs(backend.settings, settings, POLICY) or settings.name in balancer.given_up:
                self._policies[settings.name] = balancer.make_policy(settings)
            self._backends[settings.name] = backend

    def _prepare_frontends(self) -> None:
        """A frontend is made anew if it, or what it has of its backends, is not as it was."""
        before, after = (
            {backend.name: replace(backend, servers=()) for backend in settings.backends}
            for settings in (self._old, self.target)
        )
        for settings in self.target.frontends:
            factory = self.balancer.factories.get(settings.name)
            same_backends = all(before.get(name) == after.get(name) for name in settings.backends)
            if factory is not None and factory.settings == settings and same_backends:
                self._staying.append(factory)
            else:
                self._frontends.append(self.balancer.make_frontend(settings, self._backends))
        self._prepare_listeners()

    def _prepare_listeners(self) -> None:
        """Listeners whose address stays are taken over, whichever frontend had it."""
        for factory in self.balancer.factories.values():
            if factory not in self._staying:
                for host, port, listener in factory.ports:
                    self._free.setdefault((host, port), []).append(listener)
        for factory in self._frontends:
            factory.prepare()
            listeners = self._listeners[factory.name] = []
            for number, listen in enumerate(factory.settings.listen):
                free = self._free.get((listen.host, listen.port))
                if free:
                    listeners.append(free.pop(0))
                else:
                    with cannot_listen(factory.name):
                        listeners.append(factory.open(number))
                    self._opened.append(listeners[-1])

    # -- what may not ------------------------------------------------------------------------

    def commit(self) -> None:
        """Change everything."""
        balancer = self.balancer
        for settings in self.target.backends:
            self._change_backend(self._backends[settings.name], settings)
        self._change_frontends()
        for name in balancer.backends.keys() - self._backends.keys():
            balancer.remove_backend(balancer.backends[name])
        self._put_in_order(balancer.backends, self.target.backends)
        balancer.process.maxconn = self.target.maxconn
        balancer.settings = replace(self.target, **{key: getattr(balancer.settings, key) for key in AT_START})

    def _change_frontends(self) -> None:
        balancer, old = self.balancer, dict(self.balancer.factories)
        for listeners in self._free.values():
            for listener in listeners:
                listener.empty()
                listener.stopListening()
        for factory in self._frontends:
            factory.frontend.settings = factory.settings
            balancer.factories[factory.name] = factory
            balancer.frontends[factory.name] = factory.frontend
            factory.take_ports(self._listeners[factory.name])
        staying = {factory.name for factory in (*self._staying, *self._frontends)}
        for name, factory in old.items():
            if name not in staying:
                del balancer.factories[name], balancer.frontends[name]
            if factory not in self._staying:
                successor = balancer.factories.get(name)
                balancer.retire(factory, successor if type(successor) is type(factory) else None)
        for each in (balancer.factories, balancer.frontends):
            self._put_in_order(each, self.target.frontends)

    @staticmethod
    def _put_in_order(things: dict[str, Any], settings: Sequence[Any]) -> None:
        """The order of the configuration is that of every answer."""
        for each in settings:
            things[each.name] = things.pop(each.name)

    def _change_backend(self, backend: Backend, settings: BackendSettings) -> None:
        balancer, before = self.balancer, backend.settings
        if backend.name not in balancer.backends:
            balancer.add_backend(backend)
        policy = self._policies.get(backend.name)
        if policy is not None or replace(before, servers=()) != replace(settings, servers=()):
            balancer.given_up.discard(backend.name)
            backend.change(settings, policy)
            balancer.passive.attend(backend)
            if differs(before, settings, CHECKS):
                for server in backend:
                    balancer.watch(backend, server)
        wanted = {server.name: server for server in settings.servers}
        for server in list(backend):
            if server.name not in wanted and not server.leaving:
                balancer.remove_server(server)
        for name, each in wanted.items():
            if name not in backend.servers:
                balancer.add_server(backend, each)
            elif (server := backend.servers[name]).leaving or server.settings != each:
                balancer.change_server(server, each)
        backend.sort(list(wanted))


def at_start(before: Settings, after: Settings) -> Iterator[str]:
    """What differs, and has to wait for the next start."""
    return (key for key in AT_START if getattr(before, key) != getattr(after, key))


def differs(before: object, after: object, names: tuple[str, ...]) -> bool:
    """Is one of these attributes not the same?"""
    return any(getattr(before, name) != getattr(after, name) for name in names)
