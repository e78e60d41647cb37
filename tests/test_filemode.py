"""Who may read a secret. The mode is asked, not the permission: root may read everything."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lbservice import filemode


def trouble(monkeypatch: pytest.MonkeyPatch, *, owner: int, mode: int, user: int) -> str:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    status = cast(Any, SimpleNamespace(st_uid=owner, st_mode=0o100000 | mode))
    return filemode.status_trouble("k", status)


@pytest.mark.parametrize(
    ("owner", "mode", "user"), [(7, 0o600, 7), (7, 0o400, 7), (0, 0o640, 7), (0, 0o600, 0), (7, 0o600, 0)]
)
def test_what_may_be_used(monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, user: int) -> None:
    assert trouble(monkeypatch, owner=owner, mode=mode, user=user) == ""


@pytest.mark.parametrize(
    ("owner", "mode", "user", "said"),
    [
        (7, 0o640, 7, "mode 0640 lets others read it; run chmod 600 k"),
        (7, 0o604, 0, "mode 0604 lets others read it; run chmod 600 k"),
        (0, 0o644, 7, "mode 0644 lets others read it; run chmod 600 k"),
        (0, 0o660, 7, "mode 0660 lets others change it; run chmod 600 k"),
        (8, 0o600, 7, "belongs to another user (uid 8), who may change it; run chown 7 k"),
    ],
)
def test_what_may_not(monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, user: int, said: str) -> None:
    assert trouble(monkeypatch, owner=owner, mode=mode, user=user) == said


def test_a_file_that_is_not_there_is_said_so() -> None:
    assert filemode.secret_trouble("/nowhere/key") == "/nowhere/key: No such file or directory"
