"""The soak test as a program: starts everything, lets it run, and says whether what must hold has held."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import trustme

from tests.soak.faults import Faults, SoakServer
from tests.soak.memory import MIB, SHORT, WARM_UP, Growth, Sample
from tests.soak.traffic import KINDS, Site, Tally, Worker
from tests.support.processes import Balancer, Server, eventually, free_port
from tests.support.shell import AT_REST, MANHOLE, ask, counters

FIRST_PORT = 20000
"""Listeners are from here on, below Linux' ip_local_port_range."""
TIMEOUT_SERVER = 6
PROGRESS = 10
"""Seconds between two lines of progress."""
SAMPLE = 1.0
"""Seconds between two looks at the balancer's memory and open files."""
FAREWELL = 10.0
"""Seconds that clients have to end what they are doing."""
REST = 10.0
"""Seconds after which nothing may be left of them."""


def main() -> int:
    """The command line. Exit codes: 0 all is well, 1 something is not, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the traffic lasts (30)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)), help="decides what happens (random)")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    try:
        return asyncio.run(Soak(options.minutes, options.seed).run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", flush=True)
        return 130


def lb_ini(site: Site, web: Iterable[Server], raw: Iterable[Server]) -> str:
    """Two http backends with the same servers, of which `narrow` always has a queue, and one in tcp mode."""
    checks = "inter = 500ms\nfall = 3\nrise = 2\ntimeout connect = 5s\n"
    http = f"check = http GET /health expect 200\n{checks}timeout server = {TIMEOUT_SERVER}s\n"
    care = "slowstart = 1s\nobserve = layer4\nerror-limit = 3\noutlier = broken\noutlier-ejection = 500ms\n"
    classes = "queue-priority = header(X-Priority) high, low\n"
    limits = "timeout client-head = 3s\ntimeout keep-alive = 4s\n"
    lines = [server.line for server in web]
    return "\n".join(
        (
            "[loadbalancer]\ngrace = 5s",
            MANHOLE,
            f"[frontend web]\nlisten = 127.0.0.1:{site.web}, 127.0.0.1:{site.tls} tls cert=site.pem",
            f"backend = app\n{limits}",
            f"[frontend narrow]\nlisten = 127.0.0.1:{site.narrow}\nbackend = narrow\n{limits}",
            f"[frontend raw]\nlisten = 127.0.0.1:{site.raw}\nbackend = raw\nmode = tcp\n",
            f"[backend app]\n{http}{care}" + "\n".join(lines),
            f"[backend narrow]\nbalance = leastconn\n{http}{classes}"
            + "\n".join(f"{line} maxconn=1" for line in lines),
            f"[backend raw]\n{checks}" + "\n".join(server.line for server in raw),
            "",
        )
    )


class Soak:
    """One run."""

    def __init__(self, minutes: float, seed: int) -> None:
        self.seconds = 60 * minutes
        self.seed = seed
        self.samples: list[tuple[float, int, int, int]] = []
        """Seconds since the start, bytes of resident memory, open files, and requests so far."""
        self.wrong: list[str] = []

    async def run(self) -> int:
        """0 if all is well."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        folder = Path(tempfile.mkdtemp(prefix="soak-"))
        print(f"soak: {self.seconds / 60:g} minutes, --seed {self.seed}, in {folder}", flush=True)
        with ExitStack() as cleanup:
            try:
                await self._everything(folder, cleanup)
            except AssertionError as error:
                self.wrong.append(f"given up: {error}")
        for wrong in self.wrong:
            print(f"NOT WELL: {wrong}")
        if self.wrong:
            print(f"NOT WELL; everything is still in {folder}", flush=True)
            return 1
        shutil.rmtree(folder)
        print("all is well", flush=True)
        return 0

    async def _everything(self, folder: Path, cleanup: ExitStack) -> None:
        posts = folder / "posts"
        web = [SoakServer(f"s{number}", posts) for number in range(1, 5)]
        raw = [Server(f"t{number}", "tcp") for number in range(1, 3)]
        ports = free_ports()
        for server in (*web, *raw):
            server.port = next(ports)
            cleanup.callback(server.kill)
            server.start()
        site = Site(next(ports), next(ports), next(ports), next(ports), too_long=TIMEOUT_SERVER + 30)
        write_certificate(folder / "site.pem")
        balancer = self.balancer = Balancer(folder, lb_ini(site, web, raw))
        cleanup.callback(balancer.kill)
        balancer.start()
        assert counters(folder) == AT_REST
        files = self._files_at_rest()

        faults = Faults(self.seed, balancer, web, raw)
        tally = self.tally = Tally(faults.explain)
        workers = [Worker(kind, number, self.seed, site, tally) for kind in KINDS for number in range(kind.workers)]
        started, cpu = time.monotonic(), balancer.cpu_ns()
        await self._traffic(workers, faults)
        lasted = time.monotonic() - started
        cpu = balancer.cpu_ns() - cpu

        self._expect("leases, queues and connections at 0", lambda: counters(folder) == AT_REST)
        self._must("lost" not in ask(folder, "print(lb.stats().parts[0])"), "lines of the log were lost")
        for server in (*web, *raw):  # with them the idle connections to them end
            server.kill()
        self._expect(f"{files} open files as at the beginning", lambda: self._files() == files)
        left = self._files()
        try:
            balancer.stop()
        except AssertionError as error:
            self.wrong.append(str(error)[-3000:])
        faults.look_through(balancer.log_path)
        self._must(not faults.trouble, f"{len(faults.trouble)} lines in the log" + listed(faults.trouble))
        self._summary(tally, faults, lasted, cpu, files, left)
        self._judge(tally, posts)

    # -- while it runs ---------------------------------------------------------------------

    async def _traffic(self, workers: list[Worker], faults: Faults) -> None:
        """All of it, as long as it takes. An error in our own tasks, or the balancer's death, ends it."""
        clients = [asyncio.create_task(worker.run()) for worker in workers]
        happening = asyncio.create_task(faults.run())
        watching = asyncio.create_task(self._watch(faults))
        every = [*clients, happening, watching]
        try:
            ended, _ = await asyncio.wait(every, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
            watching.cancel()
            faults.stopping = True
            await happening
            for worker in workers:
                worker.stopping = True
            _, late = await asyncio.wait(clients, timeout=FAREWELL)
            for task in late:
                task.cancel()  # what takes so long is waiting for something; it leaves, as clients do
            for result in await asyncio.gather(*clients, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result
        finally:
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)

    async def _watch(self, faults: Faults) -> None:
        """Take samples, and say how it goes."""
        started, said, before = time.monotonic(), 0.0, 0
        while True:
            await asyncio.sleep(SAMPLE)
            code = self.balancer.process.poll()
            if code is not None:
                raise AssertionError(f"the balancer has ended with {code}:\n{self.balancer.output()[-3000:]}")
            now = time.monotonic() - started
            requests = self.tally.done.total()
            self.samples.append((now, self.balancer.rss(), self._files(), requests))
            if now - said >= PROGRESS:
                rate = (requests - before) / (now - said)
                said, before = now, requests
                _, rss, files, _ = self.samples[-1]
                print(
                    f"{now:6.0f} s  {requests:8d} requests  {rate:4.0f}/s  {len(self.tally.errors)} errors, "
                    f"{self.tally.explained.total()} explained  {rss / MIB:6.2f} MiB  {files:4d} files  {faults.now}",
                    flush=True,
                )

    def _files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.balancer.pid}/fd").iterdir())

    def _files_at_rest(self) -> int:
        """The least in a while: a check, and the shell that was just left, are more for a moment."""
        least = self._files()
        for _ in range(50):
            time.sleep(0.02)
            least = min(least, self._files())
        return least

    # -- afterwards ------------------------------------------------------------------------

    def _judge(self, tally: Tally, posts: Path) -> None:
        self._must(not tally.errors, f"{len(tally.errors)} errors that nothing explains" + listed(tally.errors))
        executed = posts.read_text().split()
        twice = len(executed) - len(set(executed))
        self._must(not twice, f"{twice} POST requests were executed twice")
        self._must(len(set(executed)) >= tally.done["POST"], "a POST was answered, and not executed")
        silent = [kind.name for kind in KINDS if not tally.done[kind.name]]
        self._must(not silent, f"no {', no '.join(silent)}: the run was too short, or they do not come through")
        growth = self._growth()
        self._must(growth is None or growth.good, f"memory grows: {growth}")

    def _summary(self, tally: Tally, faults: Faults, lasted: float, cpu: int, files: int, left: int) -> None:
        total = tally.done.total()
        print(f"\n{total} requests in {lasted:.0f} s, {total / lasted:.0f}/s, {cpu / 1e7 / lasted:.0f} % of a CPU")
        for kind in KINDS:
            name = kind.name
            print(f"  {name:24}{tally.done[name]:9d}  {tally.explained[name]:4d} broken by a fault")
        print(f"errors that nothing explains: {len(tally.errors)}")
        print(f"longest of the others: {tally.longest:.2f} s")
        print(f"what happened: {words(faults.happened)}")
        print(f"termination states: {words(faults.states)}")
        print(f"open files: {files} before, at most {max(each[2] for each in self.samples)}, {left} after")
        growth = self._growth() or "watched for too short a time to judge it"
        print(f"memory: {self.samples[0][1] / MIB:.2f} MiB at the start; {growth}")

    def _growth(self) -> Growth | None:
        warm = [each for each in self.samples if each[0] > WARM_UP * self.seconds]
        if not warm or warm[-1][0] - warm[0][0] < SHORT:
            return None
        line: list[Sample] = [(at, size) for at, size, _, _ in warm]
        return Growth.of(line, warm[-1][3] - warm[0][3])

    def _must(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.wrong.append(otherwise)

    def _expect(self, what: str, question: Callable[[], bool]) -> None:
        try:
            eventually(question, REST, what)
        except AssertionError as error:
            self.wrong.append(f"{error}: {counters(self.balancer.folder)}, {self._files()} files")


def free_ports() -> Iterator[int]:
    """Ports that no client is given by the kernel: a killed server must find its own free when it comes back."""
    port = FIRST_PORT
    while True:
        yield (port := free_port(port))
        port += 1


def write_certificate(path: Path) -> None:
    """A certificate of nobody, with its key."""
    certificate = trustme.CA().issue_cert("localhost")
    path.touch(mode=0o600)
    path.write_bytes(certificate.private_key_pem.bytes() + certificate.cert_chain_pems[0].bytes())


def listed(lines: list[str]) -> str:
    """The first of them, each on a line of its own."""
    return "".join(f"\n    {line[:500]}" for line in lines[:20])


def words(counted: dict[str, int]) -> str:
    """`kill 7, hang 3`."""
    return ", ".join(f"{name} {number}" for name, number in sorted(counted.items(), key=lambda each: -each[1]))
