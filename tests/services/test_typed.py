"""A typed statement: how a signal ends it, and where it does not."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from lbservice.services import typed
from lbservice.services.typed import Interrupted, Typed


@pytest.fixture
def it() -> Iterator[Typed]:
    """With SIGUSR2 as the way out; it comes 50 ms after `soon`."""

    def handle(number: int, frame: FrameType | None) -> None:
        Typed.end(frame, "enough")

    before = signal.signal(signal.SIGUSR2, handle)
    yield Typed()
    signal.signal(signal.SIGUSR2, before)


def soon() -> None:
    """The signal comes to this thread while it runs on."""
    main = threading.get_ident()
    threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGUSR2)).start()


def run(it: Typed, source: str, **names: object) -> None:
    with it.running("alice", source):
        exec(compile(source, "<console>", "exec"), names)


@pytest.mark.parametrize(
    "source",
    [
        "soon()\nwhile True: pass",
        "import time\nsoon()\ntime.sleep(10)",
        "def f():\n  while True:\n    pass\nsoon()\nf()",
        "soon()\nany(x for x in iter(int, 1))",
    ],
)
def test_a_signal_ends_what_was_typed(it: Typed, source: str) -> None:
    began = time.monotonic()
    with pytest.raises(Interrupted, match="enough"):
        run(it, source, soon=soon)
    assert time.monotonic() - began < 5


def test_what_it_called_of_ours_is_finished_first(it: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "_OURS", (__file__,))
    steps: list[str] = []

    def change() -> None:
        steps.append("begun")
        signal.raise_signal(signal.SIGUSR2)
        steps.append("done")

    with pytest.raises(Interrupted, match="enough"):
        run(it, "while True:\n  change()", change=change)
    assert steps == ["begun", "done"]
    assert sys.gettrace() is not typed._raise_at_next_line


def test_a_signal_that_comes_in_its_last_call_is_forgotten(it: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "_OURS", (__file__,))
    before = sys.gettrace()
    run(it, "change()", change=lambda: signal.raise_signal(signal.SIGUSR2))
    assert sys.gettrace() in (before, None)


def test_outside_of_a_statement_nothing_is_ended(it: Typed) -> None:
    assert not Typed.end(sys._getframe(), "enough")
    signal.raise_signal(signal.SIGUSR2)


def test_a_time_limit_is_an_alarm_that_goes_with_the_statement() -> None:
    it = Typed()
    it.limit = 0.05

    def handle(number: int, frame: FrameType | None) -> None:
        Typed.end(frame, "too long")

    before = signal.signal(signal.SIGALRM, handle)
    alarm = signal.getitimer(signal.ITIMER_REAL)
    try:
        with pytest.raises(Interrupted, match="too long"):
            run(it, "while True: pass")
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *alarm)


def test_of_what_has_run_the_longest_is_told_once() -> None:
    it = Typed()
    run(it, "1")
    run(it, "import time\ntime.sleep(0.02)")
    run(it, "2")
    took, actor, source = it.take() or (0.0, "", "")
    assert (actor, source) == ("alice", "import time\ntime.sleep(0.02)")
    assert took >= 0.02
    assert it.take() is None
