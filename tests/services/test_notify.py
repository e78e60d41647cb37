"""What systemd is told, over real datagram sockets of both kinds."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from lbservice.services.notify import Notify


class Reactor(Clock):
    def callWhenRunning(self, call: Any) -> None:
        call()


class Systemd:
    """The other end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, Systemd]]:
    if request.param == "path":
        path = f"/tmp/lbservice-test-{os.getpid()}-{time.monotonic_ns()}"  # the folders of pytest are too deep
        systemd = Systemd(path)
        yield path, systemd
        os.unlink(path)
    else:
        name = f"lbservice-test-{os.getpid()}-{time.monotonic_ns()}"
        systemd = Systemd(f"\0{name}")
        yield f"@{name}", systemd
    systemd.socket.close()


def control() -> Any:
    balancer = SimpleNamespace(frontends={"web": None}, process=SimpleNamespace(maxconn=480))
    return SimpleNamespace(balancer=balancer, reloading=[])


def say(verbs: Any, reloading: bool) -> None:
    """A reload begins, or is over."""
    for tell in verbs.reloading:
        tell(reloading)


def test_a_life(place: tuple[str, Systemd]) -> None:
    address, systemd = place
    verbs = control()
    notify = Notify(verbs, Reactor(), {"NOTIFY_SOCKET": address})
    notify.startService()
    assert systemd.heard() == [f"READY=1\nMAINPID={os.getpid()}\nSTATUS=1 frontends, at most 480 connections"]
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    say(verbs, True)
    say(verbs, False)
    reloading, ready = systemd.heard()
    match = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", reloading)
    assert match
    assert before <= int(match[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert ready.startswith("READY=1\n")
    notify.stopService()
    assert systemd.heard() == ["STOPPING=1"]


def test_the_watchdog_hears_from_the_reactor_twice_in_its_time(place: tuple[str, Systemd]) -> None:
    address, systemd = place
    reactor = Reactor()
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    notify = Notify(control(), reactor, environment)
    notify.startService()
    for _ in range(3):
        reactor.advance(2)
    assert systemd.heard()[1:] == ["WATCHDOG=1"] * 4
    notify.stopService()
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize("more", [{"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {}])
def test_no_watchdog_for_others(place: tuple[str, Systemd], more: dict[str, str]) -> None:
    address, _ = place
    reactor = Reactor()
    notify = Notify(control(), reactor, {"NOTIFY_SOCKET": address, **more})
    notify.startService()
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1", "/nowhere/to/be/found", "@nobody-there"])
def test_nobody_listens_and_nothing_happens(address: str) -> None:
    verbs = control()
    notify = Notify(verbs, Reactor(), {"NOTIFY_SOCKET": address})
    notify.startService()
    say(verbs, True)
    notify.stopService()
