"""The manual page is what the commands say now, has all of them, and reads without complaint."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lbservice.admin.cli import main
from lbservice.admin.cli.manual import commands, page

PAGE = Path(__file__).parents[3] / "docs" / "lbservice.1"


def test_the_page_in_docs_is_of_now() -> None:
    assert PAGE.read_text() == page(), "make man writes it anew"


def test_every_command_and_option_is_there() -> None:
    text = page().replace("\\-", "-")
    for words, command in commands(main):
        assert f'.SS "{words}' in text
        for option in command.params:
            assert option.param_type_name == "argument" or f"{option.opts[-1]}" in text
    assert "None" not in text


@pytest.mark.parametrize(
    "command", [["groff", "-man", "-ww", "-z"], ["mandoc", "-T", "lint", "-W", "style"]], ids=lambda words: words[0]
)
def test_it_is_clean(command: list[str]) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"there is no {command[0]} here")
    done = subprocess.run([*command, str(PAGE)], capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
