"""Every test is in a folder of its own, where a fake service listens if it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.cli.service import FakeService, fake_service


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command line is called in."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONFIG", "API", "TOKEN", "CA", "CERT"):
        monkeypatch.delenv(f"LBSERVICE_{name}", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


@pytest.fixture
def fake(folder: Path) -> Iterator[FakeService]:
    """A service at admin.sock, which the lb.ini in the folder names."""
    (folder / "lb.ini").write_text("[admin]\nlisten = unix:admin.sock\n[loadbalancer]\nlog = lb.log\n")
    with fake_service(Path("admin.sock")) as (service, _):
        yield service
