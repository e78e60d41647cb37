"""What is said of an lb.ini that others may change or read."""

from __future__ import annotations

import pytest
from twisted.logger import capturedLogs

from lbservice.core.settings import Settings
from lbservice.services.startnotes import StartNotes, trouble

TOKEN = ("backend app", "request-header Authorization", "set Bearer abc")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o600])
def test_a_file_without_secrets_may_be_read_by_others(mode: int) -> None:
    entries = (("manhole", "passwords", "passwords"), ("backend app", "sticky", "cookie SRV"), ("", "check", "tcp"))
    assert trouble(Settings(entries=entries), mode) == []


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_but_not_be_changed(mode: int) -> None:
    assert trouble(Settings(), mode) == [f"lb.ini: mode {mode:04o} lets others change it; run chmod go-w lb.ini"]


@pytest.mark.parametrize(
    "entry",
    [TOKEN, ("backend app", "check", "http GET / header Authorization:x"), ("b", "agent-send", "token x")],
)
def test_one_with_a_secret_may_not(entry: tuple[str, str, str]) -> None:
    settings = Settings(entries=(entry,))
    (said,) = trouble(settings, 0o644)
    assert said.startswith("lb.ini: mode 0644 lets others read it, and [")
    assert entry[2] not in said
    assert trouble(settings, 0o600) == []


def test_the_start_tells_how_many_clients_there_may_be() -> None:
    notes = StartNotes(Settings(file="/nowhere/lb.ini", maxconn=480))
    with capturedLogs() as logged:
        notes.startService()
    assert [event["maxconn"] for event in logged] == [480]
