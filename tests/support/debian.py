"""Programs that come from Debian packages: there, or the test is skipped with the package's name."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "curl": "curl",
    "halog": "haproxy",
    "logrotate": "logrotate",
    "openssl": "openssl",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "slowhttptest": "slowhttptest",
    "socat": "socat",
    "systemd-analyze": "systemd",
    "telnet": "telnet",
    "wrk": "wrk",
}


def need(program: str) -> str:
    """The path of the program."""
    path = shutil.which(program, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if path is None:
        pytest.skip(f"{program} is missing; apt-get install {PACKAGES[program]}")
    return path
