"""How many clients the process may have: by its limit of open files, which is raised as far as it goes."""

from __future__ import annotations

import resource
from dataclasses import replace

from lbservice.core.settings import Settings

RESERVED_FILES = 64
"""Open files that are kept for logs, checks, shells and libraries."""


def most_clients() -> int:
    """Raise the limit of open files to the hard limit; the connections of clients that it allows.

    A request may need two connections, so clients get half of the open files, less a reserve.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, (hard - RESERVED_FILES) // 2)


def open_files() -> int:
    """The open files that the process may have now."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def bounded(settings: Settings, most: int) -> Settings:
    """The settings with a `maxconn` that the process can have."""
    return replace(settings, maxconn=min(settings.maxconn or most, most))
