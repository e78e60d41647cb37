"""A policy of the user's own: found, tried out, and held in check while it works."""

from __future__ import annotations

import inspect
import re
import sys
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import module_from_spec
from random import Random
from traceback import extract_tb
from types import ModuleType

from lbservice.core.clock import Seldom
from lbservice.core.health import Health
from lbservice.core.pick import OK, Outcome, PickInfo, Policy, Result
from lbservice.core.server import Server
from lbservice.core.settings import ServerSettings
from lbservice.errors import closest
from lbservice.policies import spec
from lbservice.policies.rotation import RoundRobin

TOO_MANY, WITHIN = 10, 10.0
"""So many errors in so many seconds, and the policy is not asked any more."""

FAILURES = (Exception, SystemExit)
"""What a policy may raise; a call of sys.exit must not end the balancer without a word."""

Complain = Callable[[str, bool], None]
"""Takes what went wrong, and whether the policy is given up for it."""


def find(path: str, seconds: Callable[[], float], random: Random) -> Policy:
    """A new policy of the class that `package.module:Class` names. Raises ValueError with a sentence.

    Its constructor gets `seconds` (a call for monotonic seconds) and `random` (a Random), if it has parameters of
    these names.
    """
    made = find_class(path)
    try:
        return construct(made, seconds, random)
    except FAILURES as error:
        raise ValueError(f"{made.__name__} cannot be made: {describe(error)}") from error


def find_class(path: str) -> type[Policy]:
    """The class that `package.module:Class` names, as its file has it now. Raises ValueError with a sentence."""
    module_name, _, class_name = path.partition(":")
    try:
        module = _module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"there is no module {error.name}; it must be installed, or in the folder of this file"
        ) from None
    except BaseException as error:  # whatever a module does when it is imported
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ValueError(f"importing {module_name} fails: {describe(error)}") from error
    made = getattr(module, class_name, None)
    if made is None:
        near = closest(class_name, [name for name, value in vars(module).items() if isinstance(value, type)])
        raise ValueError(f"{module_name} has no {class_name}" + (f"; did you mean '{near}'?" if near else ""))
    if not (isinstance(made, type) and issubclass(made, Policy)):
        raise ValueError(f"{class_name} is no policy; derive it from lbservice.testing.Policy")
    return made


def _module(name: str) -> ModuleType:
    """The module of that name, imported again if its file is not what it was.

    A new version becomes a module of its own, so that policies which run go on with the old one as it was; and if it
    cannot be imported, the old one stays. Other modules that it imports are not looked at.
    """
    known = sys.modules.get(name)
    source = _source(known) if known is not None else None
    if known is None or source is None:
        module = import_module(name)
        _sources.setdefault(name, _source(module))
        return module
    before = _sources.setdefault(name, source)
    if source == before:
        return known
    again = module_from_spec(known.__spec__)  # type: ignore[arg-type] # _source has looked at it
    sys.modules[name] = again
    try:
        # Not by its loader: a file that was written twice in a second could be taken for its earlier byte code.
        exec(compile(source, known.__file__ or name, "exec", dont_inherit=True), vars(again))
    except BaseException:
        sys.modules[name] = known
        raise
    package, _, last = name.rpartition(".")
    if package:
        setattr(sys.modules[package], last, again)
    _sources[name] = source
    return again


def _source(module: ModuleType) -> bytes | None:
    """What its file says now; None if there is no file to be read."""
    spec_of, file = module.__spec__, module.__file__
    if spec_of is None or file is None or not file.endswith(".py"):
        return None
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError:
        return None


_sources: dict[str, bytes | None] = {}
"""What the files of users' modules said when they were imported, by the module's name."""


def construct(made: Callable[..., Policy], seconds: Callable[[], float], random: Random) -> Policy:
    """Call it with those of `seconds` and `random` that it has parameters for."""
    offered = {"seconds": seconds, "random": random}
    return made(**{name: offered[name] for name in inspect.signature(made).parameters if name in offered})


def try_out(path: str) -> None:
    """Let such a policy pick among servers that are not real. Raises ValueError with a sentence."""
    policy = find(path, lambda: 0.0, Random(1))
    if not _is_part(policy.wants):
        raise ValueError(f"wants = {policy.wants!r} is no part of a request; write e.g. wants = ('header', 'x-user')")
    servers = [Server("trial", ServerSettings(f"s{n}", "192.0.2.1", n), Health()) for n in (1, 2, 3)]
    for candidates in (tuple(servers), tuple(servers[1:])):
        try:
            policy.rebuild(candidates)
            picked = policy.pick(candidates, PickInfo("192.0.2.2"))
            policy.failed(servers[2], Outcome(Result.CONNECT_FAILED))
            policy.streams(servers[2])
            policy.learn(servers[2], Outcome(OK, 200, 0.1, streamed=True))
        except FAILURES as error:
            raise ValueError(f"a trial with made-up servers fails: {describe(error)}") from error
        if not any(picked is server for server in candidates):
            raise ValueError(f"in a trial, pick returned {picked!r}, which is none of the candidates")


def _is_part(wants: object) -> bool:
    match wants:
        case ("" | "uri", ""):
            return True
        case ("header" | "cookie" | "param", str(name)):
            return re.fullmatch(spec.TOKEN, name) is not None
    return False


def describe(error: BaseException) -> str:
    """`ZeroDivisionError: division by zero (mine.py:12)`, on one line."""
    places = extract_tb(error.__traceback__)
    where = f" ({places[-1].filename.rpartition('/')[2]}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


class Own(Policy):
    """Asks another policy, and does its work when that fails: the request is placed by round robin.

    `complain` hears of errors, once a second at most. After ten errors in ten seconds the other one is not asked any
    more, which is complained of too.
    """

    def __init__(self, policy: Policy, seconds: Callable[[], float], complain: Complain) -> None:
        self.wants = policy.wants
        self._policy = policy
        self._seconds = seconds
        self._complain = complain
        self._turns = RoundRobin()
        self._errors: deque[float] = deque(maxlen=TOO_MANY)
        self._seldom = Seldom(1.0)
        self._given_up = False

    def is_current(self, path: str) -> bool:
        """Is the policy that it asks of the class that `path` names now? Raises ValueError if there is none."""
        return type(self._policy) is find_class(path)

    @property
    def learns(self) -> bool:
        return self._policy.learns

    def rebuild(self, servers: Sequence[Server]) -> None:
        self._turns.rebuild(servers)
        if not self._given_up:
            try:
                self._policy.rebuild(servers)
            except FAILURES as error:
                self._blame(describe(error))

    def pick(self, candidates: Sequence[Server], info: PickInfo) -> Server:
        if not self._given_up:
            try:
                server = self._policy.pick(candidates, info)
            except FAILURES as error:
                self._blame(describe(error))
            else:
                if any(server is candidate for candidate in candidates):
                    return server
                self._blame(f"pick returned {server!r}, which is none of the candidates")
        return self._turns.pick(candidates, info)

    def failed(self, server: Server, outcome: Outcome) -> None:
        if not self._given_up:
            try:
                self._policy.failed(server, outcome)
            except FAILURES as error:
                self._blame(describe(error))

    def learn(self, server: Server, outcome: Outcome) -> None:
        if not self._given_up:
            try:
                self._policy.learn(server, outcome)
            except FAILURES as error:
                self._blame(describe(error))

    def streams(self, server: Server) -> None:
        if not self._given_up:
            try:
                self._policy.streams(server)
            except FAILURES as error:
                self._blame(describe(error))

    def _blame(self, why: str) -> None:
        now = self._seconds()
        self._errors.append(now)
        self._given_up = len(self._errors) == TOO_MANY and now - self._errors[0] <= WITHIN
        if self._seldom.now(now) or self._given_up:
            self._complain(why, self._given_up)
