from __future__ import annotations

import pytest

from lbservice.core.change import By, Change
from lbservice.core.clock import Seldom
from lbservice.core.frontend import Frontend, Process
from lbservice.core.settings import FrontendSettings, Listen


def make_frontend(process: Process, name: str = "web", maxconn: int = 0) -> Frontend:
    return Frontend(FrontendSettings(name, (Listen("", 80),), "app", maxconn=maxconn), process)


class TestFrontend:
    def test_connections_come_and_go_and_their_number_is_remembered(self) -> None:
        frontend = make_frontend(Process())
        for _ in range(3):
            frontend.opened()
        frontend.closed()
        assert (frontend.active, frontend.connections) == (2, 3)
        assert repr(frontend) == "<Frontend web: 2 connections, 0 requests>"

    def test_the_process_counts_for_all_frontends(self) -> None:
        process = Process()
        web, api = make_frontend(process), make_frontend(process, "api")
        web.opened()
        api.opened()
        web.closed()
        assert (process.active, web.active, api.active) == (1, 0, 1)

    def test_it_is_full_at_maxconn_and_has_room_when_one_leaves(self) -> None:
        frontend = make_frontend(Process(), maxconn=2)
        seen = [frontend.full]
        for step in (frontend.opened, frontend.opened, frontend.closed):
            step()
            seen.append(frontend.full)
        assert seen == [False, False, True, False]

    def test_without_maxconn_it_is_never_full(self) -> None:
        frontend = make_frontend(Process())
        for _ in range(1000):
            frontend.opened()
        assert not frontend.full

    @pytest.mark.parametrize(("own", "process", "most"), [(0, 0, 0), (5, 0, 5), (0, 7, 7), (5, 7, 5), (9, 7, 7)])
    def test_the_smaller_limit_holds(self, own: int, process: int, most: int) -> None:
        assert make_frontend(Process(process), maxconn=own).maxconn == most

    def test_the_process_is_full_at_its_own_limit(self) -> None:
        process = Process(2)
        web, api = make_frontend(process), make_frontend(process, "api")
        web.opened()
        assert not process.full
        api.opened()
        assert (process.full, web.full, api.full) == (True, False, False)


class TestSeldom:
    def test_it_is_said_at_once_and_then_not_again_for_a_while(self) -> None:
        seldom = Seldom(10.0)
        assert [seldom.now(at) for at in (0.0, 1.0, 9.9, 10.0, 19.9, 25.0)] == [True, False, False, True, False, True]


class TestChange:
    def test_a_change_says_from_what_to_what(self) -> None:
        change = Change("set to drain", "app/s1", "ready", "drain", By("anna"))
        assert change.changed
        assert str(change) == repr(change) == "app/s1: set to drain, ready -> drain"

    def test_what_was_so_already_says_that(self) -> None:
        change = Change("set to drain", "app/s1", "drain", "drain", By("anna"))
        assert not change.changed
        assert str(change) == "app/s1: already drain"
