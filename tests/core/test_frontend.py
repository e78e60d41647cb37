from __future__ import annotations

from lbservice.core.change import Change
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


class TestChange:
    def test_a_change_says_from_what_to_what(self) -> None:
        change = Change("set to drain", "app/s1", "ready", "drain", "anna")
        assert change.changed
        assert str(change) == repr(change) == "app/s1: set to drain, ready -> drain"

    def test_what_was_so_already_says_that(self) -> None:
        change = Change("set to drain", "app/s1", "drain", "drain", "anna")
        assert not change.changed
        assert str(change) == "app/s1: already drain"
