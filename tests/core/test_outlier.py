"""Who may be put out, and for how long."""

from __future__ import annotations

import pytest

from lbservice.core.backend import Backend
from lbservice.core.outlier import Outliers
from lbservice.core.server import Admin, Ejection, Server
from lbservice.core.settings import OutlierSettings
from tests.core.build import make_backend, make_server


def house(servers: int, **settings: float) -> tuple[Outliers, Backend, list[Server]]:
    backend = make_backend([make_server(f"s{number + 1}") for number in range(servers)])
    return Outliers(OutlierSettings("5xx", **settings)), backend, list(backend)  # type: ignore[arg-type] # no limit here


def out(server: Server) -> None:
    server.ejection = Ejection(99.0, "errors")


class TestHowLong:
    def test_each_time_longer_up_to_a_bound(self) -> None:
        outliers, backend, (server, *_) = house(4)
        now, sentences = 0.0, []
        for _ in range(12):
            seconds = outliers.sentence(backend, server, now)
            sentences.append(seconds)
            now += seconds
            outliers.returned(server, now)
        assert sentences == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
        assert outliers.times(server) == 12

    @pytest.mark.parametrize(
        ("well", "seconds"), [(0, 120), (29, 120), (30, 90), (59, 90), (60, 60), (90, 30), (9e9, 30)]
    )
    def test_a_time_is_forgotten_for_each_30_seconds_that_it_was_in(self, well: float, seconds: float) -> None:
        outliers, backend, (server, *_) = house(4)
        now = 0.0
        for _ in range(3):
            now += outliers.sentence(backend, server, now)
            outliers.returned(server, now)
        assert outliers.sentence(backend, server, now + well) == seconds

    def test_one_that_returns_early_is_well_from_then_on(self) -> None:
        outliers, backend, (server, *_) = house(4)
        outliers.sentence(backend, server, 0.0)
        outliers.returned(server, 1.0)
        assert outliers.sentence(backend, server, 31.5) == 30

    def test_of_each_server_by_itself_and_not_of_one_that_is_gone(self) -> None:
        outliers, backend, (s1, s2, *_) = house(4)
        assert [outliers.sentence(backend, server, 0.0) for server in (s1, s2)] == [30, 30]
        outliers.forget(s1)
        assert [outliers.sentence(backend, server, 0.0) for server in (s1, s2)] == [30, 60]


class TestWhoStays:
    @pytest.mark.parametrize(("servers", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
    def test_half_of_the_servers_at_most_are_out(self, servers: int, most: int) -> None:
        outliers, backend, each = house(servers)
        for server in each:
            if outliers.sentence(backend, server, 0.0):
                out(server)
        assert sum(server.ejection is not None for server in each) == most

    def test_never_the_last_one_whatever_share_is_allowed(self) -> None:
        outliers, backend, each = house(5, share=1.0)
        for server in each:
            if outliers.sentence(backend, server, 0.0):
                out(server)
        assert [server.ejection is None for server in each] == [False] * 4 + [True]

    def test_those_that_are_down_or_in_maintenance_do_not_make_room(self) -> None:
        outliers, backend, (s1, s2, s3, s4) = house(4)
        s3.health.up, s4.admin = False, Admin.MAINT
        assert outliers.sentence(backend, s1, 0.0) == 30
        out(s1)
        assert outliers.sentence(backend, s2, 0.0) == 0

    def test_a_refusal_is_no_time(self) -> None:
        outliers, backend, (server,) = house(1)
        assert outliers.sentence(backend, server, 0.0) == 0
        assert outliers.times(server) == 0
