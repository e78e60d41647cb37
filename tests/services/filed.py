"""A house whose configuration is in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lbservice.config import load
from lbservice.core.change import By
from lbservice.core.settings import ServerSettings
from tests.services.house import House

TEXT = """\
# Ours.
[frontend web]
listen = 127.0.0.1:8080
backend = app

[backend app]
check = none   ; for now
server s1 = 127.0.0.1:9001 weight=2 ; the fast one
server s2 = 127.0.0.1:9002
"""

ANNA, BEN = By("anna", "shell"), By("ben", "api")
NEW = ServerSettings("s3", "127.0.0.1", 9003)


class Filed(House):
    """Runs what `TEXT`, or another text, says in `file`."""

    def __init__(self, folder: Path, text: str = TEXT) -> None:
        self.file = folder / "lb.ini"
        self.file.write_text(text)
        super().__init__(folder, load(str(self.file)))

    @property
    def text(self) -> str:
        """What the file says now."""
        return self.file.read_text()

    @property
    def backup(self) -> Path:
        """What it said before it was saved."""
        return self.file.with_name("lb.ini.bak")

    def edit(self, before: str, after: str) -> None:
        """Somebody changes the file."""
        assert before in self.text
        self.file.write_text(self.text.replace(before, after))

    def weights(self) -> dict[str, int]:
        """Of the servers of app, by name."""
        return {server.name: server.weight for server in self.app}

    def differs(self) -> list[tuple[Any, ...]]:
        """What diff says, without the section."""
        return [(row.key, row.running, row.file) for row in self.control.diff()]
