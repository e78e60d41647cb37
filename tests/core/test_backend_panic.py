"""Panic: so few servers are up that all are used."""

from __future__ import annotations

import pytest

from lbservice.core.backend import Backend
from lbservice.core.server import Admin, Ejection
from lbservice.core.settings import BackendSettings
from tests.core.build import FirstWithRoom, comes_up, goes_down, make_server


class Panicky:
    """A backend that panics at a share, and what was said of it."""

    def __init__(self, share: float, servers: int, backups: int = 0) -> None:
        self.said: list[bool] = []
        self.empty: list[bool] = []
        self.backend = Backend(
            BackendSettings("app", panic=share),
            FirstWithRoom(),
            panicked=lambda backend: self.said.append(backend.panicking),
            emptied=lambda backend, empty: self.empty.append(empty),
        )
        for number in range(servers + backups):
            self.backend.add(make_server(f"s{number + 1}", backup=number >= servers))
        self.servers = list(self.backend)

    @property
    def used(self) -> str:
        return " ".join(server.name for server in self.backend.available)


@pytest.mark.parametrize(("share", "bearable"), [(0.5, 2), (0.51, 1), (0.25, 3), (1.0, 0), (0.01, 3)])
def test_it_begins_when_fewer_than_the_share_are_up(share: float, bearable: int) -> None:
    house = Panicky(share, 4)
    for number, server in enumerate(house.servers, 1):
        goes_down(house.backend, server)
        assert house.backend.panicking == (number > bearable)
        assert len(house.backend.available) == (4 if number > bearable else 4 - number)
    assert house.said == [True]


def test_it_ends_when_enough_are_up_again_and_is_told_once_each_way() -> None:
    house = Panicky(0.5, 4)
    for server in house.servers:
        goes_down(house.backend, server)
    comes_up(house.backend, house.servers[0])
    assert house.used == "s1 s2 s3 s4"
    comes_up(house.backend, house.servers[1])
    assert house.used == "s1 s2"
    assert house.said == [True, False]
    assert house.empty == [False], "it was never without a server"


def test_it_is_off_by_default() -> None:
    house = Panicky(0.0, 2)
    for server in house.servers:
        goes_down(house.backend, server)
    assert (house.used, house.said, house.empty) == ("", [], [False, True])


def test_what_people_have_taken_out_stays_out_and_does_not_count() -> None:
    house = Panicky(0.5, 4)
    s1, s2, s3, s4 = house.servers
    s1.admin, s2.weight = Admin.DRAIN, 0
    goes_down(house.backend, s3)
    assert house.used == "s4"
    goes_down(house.backend, s4)
    assert house.used == "s3 s4"
    assert not Panicky(0.5, 0).backend.panicking, "of no servers none is missing"


def test_what_was_put_out_for_its_errors_is_used_too() -> None:
    house = Panicky(0.51, 2)
    house.servers[0].ejection = Ejection(9.0, "errors")
    house.backend.refresh()
    assert house.used == "s1 s2"


def test_a_backup_that_is_up_comes_before_panic() -> None:
    house = Panicky(0.5, 2, backups=1)
    s1, s2, backup = house.servers
    goes_down(house.backend, s1)
    goes_down(house.backend, s2)
    assert (house.used, house.said) == ("s3", [])
    goes_down(house.backend, backup)
    assert (house.used, house.said) == ("s1 s2", [True])
