"""From the running configuration to another one, in one step: what may fail is done before anything changes.

Whatever keeps its name keeps its object: health, counters and connections of a server, the queue of a backend, the
listeners of a frontend. Clients' connections go over to the new frontend between two requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.error import CannotListenError

from lbservice.config import line_of
from lbservice.core.backend import Backend
from lbservice.core.pick import Policy
from lbservice.core.settings import BackendSettings, Listen, Settings
from lbservice.errors import ControlError, StartError
from lbservice.proxy.listener import FrontendFactory
from lbservice.proxy.tls import authorities, forget_authorities

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
    except OSError as error:
        raise StartError(f"[frontend {frontend}] cannot listen: {error}") from error


POLICY = ("balance", "hash_balance_factor", "sticky", "sticky_key")
"""What makes a backend's policy; while all of it stays, so does the policy, with what it has learnt."""
AT_START = ("log", "splice", "write_through", "state_file", "manhole", "admin")
"""What is read once: a change of it is for the next start."""
CHECKS = ("check", "agent")
"""What says how a backend's servers are watched."""
PASSIVE = ("observe", "outlier")
"""What says how their uses are listened to."""


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
        self._covered: dict[str, list[tuple[int, str, int, Any]]] = {}
        """Those that it takes over besides: see `FrontendFactory.take_ports`."""
        self._heirs: dict[FrontendFactory, FrontendFactory] = {}
        """Who has got the first listener of whom."""
        self.renewed: list[str] = []
        """Sentences: what is read again, though the settings are as they were."""
        self._opened: list[Any] = []
        """Listeners that have been opened for it."""

    # -- what may fail -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Make everything that is new. Raises ControlError; nothing has changed then."""
        try:
            self._refuse_missing()
            self._prepare_backends()
            self._read_authorities()
            self._prepare_frontends()
        except StartError as error:
            self.forget()
            raise ControlError(f"{placed(str(error), self.target)}; nothing was changed") from error
        except BaseException:
            self.forget()
            raise

    def forget(self) -> None:
        """It is not wanted: close what was opened."""
        for port in self._opened:
            with suppress(Exception):
                port.close()

    def _refuse_missing(self) -> None:
        """A file is sound, but what was put together from several versions of it may not be."""
        known = {backend.name for backend in self.target.backends}
        for frontend in self.target.frontends:
            for name in frontend.backends:
                if name not in known:
                    raise StartError(f"[frontend {frontend.name}] needs the backend {name}, which would be gone")

    def _prepare_backends(self) -> None:
        balancer = self.balancer
        for settings in self.target.backends:
            backend = balancer.backends.get(settings.name)
            if backend is None:
                backend = balancer.make_backend(settings.itself)
            elif differs(backend.settings, settings, POLICY):
                self._policies[settings.name] = balancer.make_policy(settings)
            elif not balancer.is_current(backend):
                self._policies[settings.name] = balancer.make_policy(settings)
                self.renewed.append(f"[backend {settings.name}] balance = {settings.balance}: made anew")
            self._backends[settings.name] = backend

    def _read_authorities(self) -> None:
        """They are kept until a reload, and read anew when they are needed next: make sure that they can be."""
        read: set[str] = set()
        for backend in self.target.backends:
            for server in backend.servers:
                ca = None if server.tls is None else server.tls.ca
                if ca is not None and ca not in read:
                    read.add(ca)
                    try:
                        authorities(ca)
                    except (OSError, ValueError) as error:
                        raise StartError(f"[backend {backend.name}] server {server.name}: ca={ca}: {error}") from error

    def _prepare_frontends(self) -> None:
        """A frontend is made anew if it, or what it has of its backends, is not as it was."""
        before, after = (
            {backend.name: backend.itself for backend in settings.backends} for settings in (self._old, self.target)
        )
        for settings in self.target.frontends:
            factory = self.balancer.factories.get(settings.name)
            same_backends = all(before.get(name) == after.get(name) for name in settings.backends)
            if factory is not None and factory.settings == settings and same_backends:
                renewed = factory.renewed
                if not renewed:
                    self._staying.append(factory)
                    continue
                self.renewed += [f"[frontend {settings.name}] {path}: read again" for path in renewed]
            self._frontends.append(self.balancer.make_frontend(settings, self._backends))
        backends = {settings.name: settings for settings in self.target.backends}
        for factory in self._frontends:
            factory.prepare(backends)
        self._prepare_listeners()

    def _prepare_listeners(self) -> None:
        """Listeners whose address stays are taken over, whichever frontend had it; the others are opened."""
        owners: dict[int, FrontendFactory] = {}
        for factory in self.balancer.factories.values():
            if factory not in self._staying:
                for host, port, listener in factory.ports:
                    self._free.setdefault((host, port), []).append(listener)
                    owners[id(listener)] = factory
        wanted = [
            (factory, number, listen)
            for factory in self._frontends
            for number, listen in enumerate(factory.settings.listen)
        ]
        found: dict[tuple[str, int], Any] = {}
        for factory, number, listen in wanted:
            if free := self._free.get((listen.host, listen.port)):
                found[factory.name, number] = free.pop(0)
        for factory, number, listen in wanted:
            listener = found.get((factory.name, number))
            if listener is None:
                beside = self._beside(listen)
                with cannot_listen(factory.name):
                    listener = factory.open(number, [each for _, each in beside])
                self._opened.append(listener)
            self._listeners.setdefault(factory.name, []).append(listener)
            covered = [(host, each) for host, each in self._beside(listen) if narrower(host, listen.host)]
            for host, each in covered:
                self._free[host, listen.port].remove(each)
                self._covered.setdefault(factory.name, []).append((number, host, listen.port, each))
            for each in (listener, *(each for _, each in covered)):
                if id(each) in owners:
                    self._heirs.setdefault(owners[id(each)], factory)

    def _beside(self, listen: Listen) -> list[tuple[str, Any]]:
        """Listeners that would go and have a part of this address, with their hosts; the kernel holds it for them."""
        return [
            (host, listener)
            for (host, port), listeners in self._free.items()
            if port == listen.port != 0 and (narrower(host, listen.host) or narrower(listen.host, host))
            for listener in listeners
        ]

    # -- what may not ------------------------------------------------------------------------

    def commit(self) -> None:
        """Change everything."""
        balancer = self.balancer
        balancer.process.maxconn = self.target.maxconn
        forget_authorities()
        for settings in self.target.backends:
            backend = self._backends[settings.name]
            with backend.at_once():
                self._change_backend(backend, settings)
        self._change_frontends()
        for name in balancer.backends.keys() - self._backends.keys():
            balancer.remove_backend(balancer.backends[name])
        self._put_in_order(balancer.backends, self.target.backends)
        balancer.settings = replace(self.target, **{key: getattr(balancer.settings, key) for key in AT_START})
        balancer.admission.review()

    def _change_frontends(self) -> None:
        balancer, old = self.balancer, dict(self.balancer.factories)
        for listeners in self._free.values():
            for listener in listeners:
                listener.close()
        for factory in self._frontends:
            factory.frontend.settings = factory.settings
            balancer.factories[factory.name] = factory
            balancer.frontends[factory.name] = factory.frontend
            factory.take_ports(self._listeners[factory.name], self._covered.get(factory.name, ()))
        staying = {factory.name for factory in (*self._staying, *self._frontends)}
        for name, factory in old.items():
            if name not in staying:
                del balancer.factories[name], balancer.frontends[name]
            if factory not in self._staying:
                successor = balancer.factories.get(name) or self._heirs.get(factory)  # the latter if it is renamed
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
        if policy is not None or before.itself != settings.itself:
            balancer.given_up.discard(backend.name)
            backend.change(settings, policy)
            if differs(before, settings, PASSIVE):
                balancer.passive.attend(backend)
            if differs(before, settings, CHECKS):
                for number, server in enumerate(backend):
                    balancer.watch(backend, server, number * settings.check.inter / len(backend.servers))
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


def narrower(one: str, other: str) -> bool:
    """Is this host to listen on a part of the other? "" is every IPv4 address, "::" every address."""
    return one != other and (other == "::" or (other == "" and ":" not in one))


def placed(message: str, settings: Settings) -> str:
    """A sentence that begins with `[section] key`, behind file and line of that key if it is in the file."""
    found = re.match(r"\[([^]]+)\] (cannot listen|[^:=]+)", message)
    line = 0
    if found is not None:
        section, key = found[1], found[2].strip()
        line = line_of(settings.file, section, "listen" if key == "cannot listen" else key)
    return f"{settings.file}:{line}: {message}" if line else message


def at_start(before: Settings, after: Settings) -> Iterator[str]:
    """What differs, and has to wait for the next start."""
    return (key for key in AT_START if getattr(before, key) != getattr(after, key))


def differs(before: object, after: object, names: tuple[str, ...]) -> bool:
    """Is one of these attributes not the same?"""
    return any(getattr(before, name) != getattr(after, name) for name in names)
