"""Run-time changes written back into lb.ini: all checked before the file is touched, and then all of it at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from lbservice import ini
from lbservice.atomic import mark, replace_file
from lbservice.config import parse, read
from lbservice.core.settings import Settings
from lbservice.editing import edited
from lbservice.errors import ConfigError, ControlError, InTheWay
from lbservice.services.transition import AT_START
from lbservice.writing import differences, sentence

BACKUP = ".bak"
"""Behind the name of what the file was before."""
HINTS = {
    errno.EACCES: "; let the balancer's user write this file, and in {folder}",
    errno.EPERM: "; let the file belong to the balancer's user and group",
    errno.EBUSY: "; a file that is mounted cannot be replaced, mount {folder}",
}
"""What to do."""


def save(loaded: Settings, running: Settings, bounded: Callable[[Settings], Settings]) -> Settings:
    """Let the file that was `loaded` say what is `running`; what it says then. Raises ControlError.

    `bounded` is what this process makes of any settings. The file is refused if it does not say any more what was
    loaded. What is read at the start only stays as the file has it.
    """
    file = loaded.file
    try:
        seen = mark(file)
        text = read(file)
        if _entries(text, file) != loaded.entries:
            _refuse_changed(loaded, bounded(_parse(text, file)))
    except OSError as error:
        raise ControlError(f"{file}: {error.strerror}; nothing was saved") from error
    except ConfigError as error:
        raise ControlError(f"{error}\nnothing was saved; mend the file, or take the change of it back") from error
    new = edited(text, running)
    try:
        saved = bounded(_parse(new, file))
    except ConfigError as error:
        raise ControlError(f"what runs cannot be written:\n{error}\nnothing was saved") from error
    if saved != replace(running, **{key: getattr(saved, key) for key in AT_START}):
        raise ControlError(f"{file} cannot say what runs; nothing was saved; diff() and undo(), or edit the file")
    if new != text:
        _write(file, new, seen)
    return saved


def _entries(text: str, file: str) -> tuple[tuple[str, str, str], ...]:
    sections, _ = ini.read(text.removeprefix("\ufeff"), file)
    return tuple((section.title, entry.key, entry.value) for section in sections for entry in section.entries)


def _refuse_changed(loaded: Settings, present: Settings) -> NoReturn:
    changed = [sentence(*each) for each in differences(loaded, present)]
    what = f" ({'; '.join(changed)})" if changed else ""
    raise InTheWay(f"{loaded.file} was changed since it was read{what}; reload first, which keeps both, and then save")


def _parse(text: str, file: str) -> Settings:
    return parse(text.removeprefix("\ufeff"), file)


def _write(file: str, text: str, seen: tuple[int, int, int, int]) -> None:
    try:
        replace_file(file, text.encode("utf-8"), backup=BACKUP, seen=seen)
    except OSError as error:
        folder = os.path.dirname(os.path.realpath(file))
        hint = HINTS.get(error.errno or 0, "").format(folder=folder)
        raise ControlError(f"{file} cannot be saved: {error.strerror}; nothing was changed in it{hint}") from error
