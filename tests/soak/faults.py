"""What goes wrong, and what an operator does meanwhile: one thing at a time, each until all is well again."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from subprocess import PIPE, Popen
from sys import executable

from tests.support.accessline import HTTP_LINE, TCP_LINE
from tests.support.processes import ROOT, TROUBLE, Balancer, Server
from tests.support.shell import ask

AFTERMATH = 1.0
"""Seconds for which a fault still explains errors."""
RECOVERY = 30.0
"""Seconds after which servers must be well again, or gone when they are removed."""
HANG = 3.0
"""Seconds that a server hangs at most: less than `timeout server`, so what it has got is answered late, but well."""


class SoakServer(Server):
    """A process of `tests.soak.server`."""

    def __init__(self, name: str, posts: Path) -> None:
        super().__init__(name)
        self._posts = posts

    def launch(self) -> None:
        options = ["--name", self.name, "--port", str(self.port), "--posts", str(self._posts)]
        command = [executable, "-m", "tests.soak.server", *options]
        self._process = Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, start_new_session=True)

    def mode(self, mode: str) -> None:
        """Have it behave like that from now on."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{mode}\n".encode())
        self._process.stdin.flush()


class Faults:
    """Goes through a bag of things that happen, in an order that the seed decides, and then again."""

    def __init__(self, seed: int, balancer: Balancer, web: list[SoakServer], raw: list[Server]) -> None:
        self.happened: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        """Termination states of the access lines that have been read."""
        self.trouble: list[str] = []
        self.now = ""
        self.stopping = False
        self._chance = random.Random(f"{seed}/faults")
        self._balancer = balancer
        self._web = web
        self._raw = raw
        self._windows: list[tuple[float, float]] = []

    def explain(self, began: float, ended: float) -> bool:
        """May what lasted from then to then have broken because of a fault?"""
        return any(start <= ended and began <= end for start, end in self._windows)

    async def run(self) -> None:
        """Until `stopping`; what has begun is ended."""
        bag: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        while not self.stopping:
            if not bag:
                bag = list(self._everything())
                self._chance.shuffle(bag)
            name, happen = bag.pop()
            self.now = name
            await happen()
            self.now = ""
            self.happened[name] += 1
            await asyncio.sleep(self._chance.uniform(0.5, 1.5))

    def _everything(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        return [
            ("kill", lambda: self._kill(self._web)),
            ("kill", lambda: self._kill(self._web)),
            ("kill (tcp)", lambda: self._kill(self._raw)),
            ("hang", lambda: self._hang(self._web)),
            ("hang (tcp)", lambda: self._hang(self._raw)),
            ("reset", self._reset),
            ("drain", lambda: self._change("drain")),
            ("maint", lambda: self._change("maint")),
            ("weight", self._weight),
            ("remove and add", self._replace),
            ("log reopened", self.rotate),
        ]

    # -- faults ----------------------------------------------------------------------------

    async def _kill(self, servers: list[Server] | list[SoakServer]) -> None:
        server = self._chance.choice(servers)
        async with self._breaking():
            await asyncio.to_thread(server.kill)
        await asyncio.sleep(self._chance.uniform(0.2, 3))
        await asyncio.to_thread(server.start)
        await self._well()

    async def _hang(self, servers: list[Server] | list[SoakServer]) -> None:
        server = self._chance.choice(servers)
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(self._chance.uniform(0.5, HANG))
        server.signal(signal.SIGCONT)
        await self._well()

    async def _reset(self) -> None:
        server = self._chance.choice(self._web)
        async with self._breaking():
            server.mode("reset")
            await asyncio.sleep(self._chance.uniform(0.5, 3))
            server.mode("normal")
        await self._well()

    @asynccontextmanager
    async def _breaking(self) -> AsyncIterator[None]:
        """What breaks meanwhile, or in the aftermath, is explained."""
        start = time.monotonic()
        self._windows = [*self._windows[-20:], (start, inf)]
        yield
        self._windows[-1] = (start, time.monotonic() + AFTERMATH)

    # -- changes: they cost no request anything ----------------------------------------------

    async def _change(self, verb: str) -> None:
        path = self._path()
        await self._ask(f'lb.{verb}("{path}")\n')
        await asyncio.sleep(self._chance.uniform(0.5, 2))
        await self._ask(f'lb.ready("{path}")\n')
        await self._well()

    async def _weight(self) -> None:
        path = self._path()
        for weight in (self._chance.choice((0, 3, 256)), 1):
            await self._ask(f'lb.weight("{path}", {weight})\n')
            await asyncio.sleep(self._chance.uniform(0.5, 2))

    async def _replace(self) -> None:
        server = self._chance.choice(self._web)
        await self._ask(f'lb.remove("app/{server.name}")\n')
        await self._until(f'all(row.server != "app/{server.name}" for row in lb.servers())', "a removed server is gone")
        await asyncio.sleep(self._chance.uniform(0, 1))
        await self._ask(f'lb.add("app", "{server.name}", "{server.address}")\n')
        await self._well()

    async def rotate(self) -> None:
        """Move the log away, and look through it."""
        balancer = self._balancer
        old = balancer.log_path.with_suffix(".old")
        balancer.log_path.rename(old)
        balancer.signal(signal.SIGUSR1)
        async with asyncio.timeout(RECOVERY):
            while not (balancer.log_path.exists() and "log reopened" in await asyncio.to_thread(balancer.log)):
                await asyncio.sleep(0.05)
        await asyncio.to_thread(self.look_through, old)
        old.unlink()

    def look_through(self, log: Path) -> None:
        """Count the states of its lines, and note whatever must not be in it."""
        for line in log.read_text(errors="replace").splitlines():
            if TROUBLE.search(line) or line[:1] in (" ", ""):
                self.trouble.append(line)
            elif " [lbservice] " in line:
                if " error: " in line or " critical: " in line:
                    self.trouble.append(line)
            elif (match := HTTP_LINE.match(line) or TCP_LINE.match(line)) is None or match["state"][0] in "IR":
                self.trouble.append(line)
            else:
                self.states[match["state"]] += 1

    # -- how -------------------------------------------------------------------------------

    def _path(self) -> str:
        return f"app/{self._chance.choice(self._web).name}"

    async def _well(self) -> None:
        await self._until('all(row.state == "UP" for row in lb.servers())', "every server is well again")

    async def _until(self, expression: str, what: str) -> None:
        deadline = time.monotonic() + RECOVERY
        while (await self._ask(f"print({expression})\n")).strip() != "True":
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {RECOVERY:g} s\n{await self._ask('lb.servers()')}")
            await asyncio.sleep(0.2)

    async def _ask(self, script: str) -> str:
        async with asyncio.timeout(RECOVERY):
            return await asyncio.to_thread(ask, self._balancer.folder, script)
