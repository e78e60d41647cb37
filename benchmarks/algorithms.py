"""What each policy does in good and in bad times: the pictures and the tables of docs/algorithms.md.

    python -m benchmarks.algorithms          runs the simulations, draws docs/algorithms/*.svg, prints the tables

Everything is simulated with PolicyHarness, so the same commit gives the same pictures on any machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbservice.core.pick import Outcome
from lbservice.core.server import Server
from lbservice.policies.least import LeastConn
from lbservice.testing import Fault, Policy, PolicyHarness, Report, SimServer

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "algorithms"
SECONDS = 60.0
MEAN = 0.05
"""Seconds that a usual server takes for a request."""


class Unguarded(LeastConn):
    """leastconn as it would be if errors did not count."""

    def failed(self, server: Server, outcome: Outcome) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Row:
    """One policy of a picture."""

    name: str
    policy: str | Callable[..., Policy]
    factor: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """`odd` is the server that the picture is about, if any; a `rate` is requests a second."""

    name: str
    title: str
    servers: tuple[SimServer, ...]
    rate: float
    odd: str = ""
    rows: tuple[Row, ...] = ()


ROWS = (
    *(Row(name, name) for name in ("roundrobin", "leastconn", "random", "least-time", "peak-ewma", "source", "uri")),
    Row("uri, bound 150", "uri", 150),
    Row("maglev uri", "maglev uri"),
)
UNGUARDED = Row("leastconn, no guard", Unguarded)


def _usual(count: int) -> tuple[SimServer, ...]:
    return tuple(SimServer(f"s{number}", seconds=MEAN, workers=4) for number in range(1, 1 + count))


SCENES = (
    Scene("equal", "Ten equal servers, 60 % busy", _usual(10), 480),
    Scene(
        "weights",
        "Ten servers with as many workers as their weight asks for, 60 % busy",
        tuple(
            SimServer(f"s{number}", seconds=MEAN, workers=2 * weight, weight=weight)
            for number, weight in enumerate((4, 4, 3, 3, 2, 2, 1, 1, 1, 1), 1)
        ),
        528,
    ),
    Scene(
        "slow",
        "One of ten servers is ten times slower",
        (*_usual(9), SimServer("s10", seconds=10 * MEAN, workers=4)),
        480,
        odd="s10",
    ),
    Scene(
        "failing",
        "One of ten servers answers 503 within a millisecond, for 20 of 60 seconds",
        (*_usual(9), SimServer("s10", seconds=MEAN, workers=4, faults=(Fault(20, 40, status=503),))),
        480,
        odd="s10",
        rows=(UNGUARDED,),
    ),
)
COURSE = Scene(
    "course",
    "One of ten servers is ten times slower from second 20 to second 40",
    (*_usual(9), SimServer("s10", seconds=MEAN, workers=4, faults=(Fault(20, 40, slower=10),))),
    480,
    odd="s10",
)
COURSES = ("roundrobin", "leastconn", "random", "least-time", "peak-ewma")


def simulate(scene: Scene, row: Row) -> tuple[PolicyHarness, Report]:
    """One policy in one scene."""
    harness = PolicyHarness(row.policy, scene.servers, seed=7, factor=row.factor)
    return harness, harness.run(scene.rate, SECONDS)


def against_fair(scene: Scene, report: Report) -> dict[str, float]:
    """Each server's share, where 1 is what its weight asks for."""
    total = sum(server.weight for server in scene.servers)
    return {server.name: report.shares[server.name] * total / server.weight for server in scene.servers}


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.0f} s"


def table(scene: Scene, reports: dict[str, Report]) -> str:
    """In Markdown."""
    odd = bool(scene.odd)
    failing = scene.name == "failing"
    columns = ["policy", "p50", "p99", "servers' shares / fair"]
    columns += [f"{scene.odd}'s"] if odd else []
    columns += ["failed", "back after"] if failing else []
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name, report in reports.items():
        shares = against_fair(scene, report)
        usual = [share for server, share in shares.items() if server != scene.odd]
        cells = [name, milliseconds(report.p50), milliseconds(report.p99), f"{min(usual):.2f}-{max(usual):.2f}"]
        cells += [f"{shares[scene.odd]:.2f}"] if odd else []
        if failing:
            back = report.recovery[scene.odd]
            cells += [f"{report.failed / report.requests:.2%}", "never" if back is None else f"{back:.0f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# -- pictures --------------------------------------------------------------------------------

INK, ODD, USUAL, PALE = "#222222", "#d1495b", "#30638e", "#c9d6df"
LINES = ("#8d99ae", "#30638e", "#edae49", "#00798c", "#d1495b")


def picture(plt: Any, scene: Scene, reports: dict[str, Report]) -> None:
    """Shares on the left; on the right response times, or what failed. A row for each policy."""
    names = list(reports)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 0.36 * len(names) + 1.3), sharey=True, gridspec_kw={"width_ratios": (1, 1.1)}
    )
    for place, name in enumerate(names):
        shares = against_fair(scene, reports[name])
        usual = [share for server, share in shares.items() if server != scene.odd]
        left.plot([min(usual), max(usual)], [place] * 2, color=PALE, lw=5, solid_capstyle="round", zorder=1)
        left.plot(usual, [place] * len(usual), "o", color=USUAL, ms=4, alpha=0.7, mew=0, zorder=2)
        if scene.odd:
            left.plot([shares[scene.odd]], [place], "D", color=ODD, ms=6, zorder=3)
    left.axvline(1, color=INK, lw=0.8, ls=":", zorder=0)
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.4, -0.6)
    left.set_xlim(left=0)
    left.set_xlabel("share of requests, 1 = fair" + (f"   (red: {scene.odd})" if scene.odd else ""))
    if scene.name == "failing":
        _failures(right, list(reports.values()))
    else:
        _times(right, list(reports.values()))
    _finish(figure, scene)


def _times(axes: Any, reports: list[Report]) -> None:
    for place, report in enumerate(reports):
        axes.plot([report.p50, report.p99], [place] * 2, color=PALE, lw=5, zorder=1)
        axes.plot([report.p50], [place], "o", color=USUAL, ms=6, zorder=2)
        axes.plot([report.p99], [place], "|", color=ODD, ms=13, mew=2.5, zorder=2)
        _note(axes, milliseconds(report.p99), report.p99, place)
    axes.set_xlabel("response time   (dot: median, bar: p99)")
    longest = max(report.p99 for report in reports)
    ticks = [0.03, 0.1, 0.3] if longest < 1 else [0.1, 1.0, 10.0, 100.0]
    _logarithmic(axes, ticks, [milliseconds(tick) for tick in ticks], longest)


def _failures(axes: Any, reports: list[Report]) -> None:
    parts = [report.failed / report.requests for report in reports]
    for place, part in enumerate(parts):
        axes.plot([1e-4, part], [place] * 2, color=PALE, lw=5, zorder=1)
        axes.plot([part], [place], "o", color=ODD, ms=6, zorder=2)
        _note(axes, f"{part:.2%}", part, place)
    axes.set_xlabel("requests that failed")
    _logarithmic(axes, [1e-4, 1e-3, 1e-2, 1e-1], ["0.01 %", "0.1 %", "1 %", "10 %"], max(parts))


def _note(axes: Any, text: str, at: float, place: int) -> None:
    axes.annotate(text, (at, place), (8, 0), textcoords="offset points", va="center")


def _logarithmic(axes: Any, ticks: list[float], labels: list[str], most: float) -> None:
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(ticks, labels)
    low = axes.get_xlim()[0]
    axes.set_xlim(low, most * (most / low) ** 0.25)


def course(plt: Any, scene: Scene, harnesses: dict[str, PolicyHarness]) -> None:
    """The odd server's share over time, in steps of a second."""
    figure, axes = plt.subplots(figsize=(9, 3.2))
    axes.axvspan(20, 40, color="#f4e8e9", lw=0)
    axes.axhline(1, color=INK, lw=0.8, ls=":")
    for colour, (name, harness) in zip(LINES, harnesses.items(), strict=True):
        sims = [harness.sim(server) for server in harness.backend]
        (odd,) = (sim for sim in sims if sim.settings.name == scene.odd)
        seconds = range(2, int(SECONDS) - 1)
        shares = [
            odd.count(at - 1, at + 2) / max(1, sum(sim.count(at - 1, at + 2) for sim in sims)) * len(sims)
            for at in seconds
        ]
        axes.plot([at + 0.5 for at in seconds], shares, color=colour, lw=1.8, label=name)
    axes.set_xlabel("seconds")
    axes.set_ylabel(f"share of {scene.odd}, 1 = fair")
    axes.set_xlim(0, SECONDS)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    _finish(figure, scene)


def _finish(figure: Any, scene: Scene) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#eeeeee", zorder=0)
        axes.set_axisbelow(True)
    figure.suptitle(scene.title, x=0.01, ha="left", fontsize=11, color=INK)
    figure.tight_layout()
    figure.savefig(FOLDER / f"{scene.name}.svg", metadata={"Date": None})


def _pyplot() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError:
        sys.exit("matplotlib is missing; pip install 'lbservice[docs]', or make plots")
    matplotlib.use("svg")
    # Texts stay texts: that is smaller, and can be searched.
    style = {"svg.hashsalt": "lbservice", "svg.fonttype": "none", "font.family": ["DejaVu Sans", "sans-serif"]}
    matplotlib.rcParams.update({**style, "font.size": 9, "axes.edgecolor": INK})
    from matplotlib import pyplot

    return pyplot


def main() -> None:
    plt = _pyplot()
    FOLDER.mkdir(exist_ok=True)
    for scene in SCENES:
        reports = {row.name: simulate(scene, row)[1] for row in (*ROWS, *scene.rows)}
        picture(plt, scene, reports)
        print(f"### {scene.title}\n\n{table(scene, reports)}\n")
    course(plt, COURSE, {name: simulate(COURSE, Row(name, name))[0] for name in COURSES})


if __name__ == "__main__":
    main()
