from __future__ import annotations

import pytest

from lbservice.core.settings import BackendSettings, CheckSettings, Listen, ServerSettings


class TestIntervals:
    """fastinter while in doubt, downinter while down, else inter (HAProxy)."""

    @pytest.mark.parametrize(
        ("up", "transition", "seconds"),
        [(True, False, 2.0), (True, True, 0.5), (False, True, 0.5), (False, False, 9.0)],
    )
    def test_all_three_given(self, up: bool, transition: bool, seconds: float) -> None:
        check = CheckSettings(inter=2.0, fastinter=0.5, downinter=9.0)
        assert check.interval(up=up, transition=transition) == seconds

    @pytest.mark.parametrize("up", [True, False])
    @pytest.mark.parametrize("transition", [True, False])
    def test_only_inter_given(self, up: bool, transition: bool) -> None:
        assert CheckSettings(inter=3.0).interval(up=up, transition=transition) == 3.0

    def test_without_fastinter_a_server_in_doubt_is_checked_by_its_state(self) -> None:
        check = CheckSettings(inter=2.0, downinter=9.0)
        assert check.interval(up=False, transition=True) == 9.0
        assert check.interval(up=True, transition=True) == 2.0

    def test_a_check_may_take_one_interval_unless_said_otherwise(self) -> None:
        assert CheckSettings(inter=3.0).patience == 3.0
        assert CheckSettings(inter=3.0, timeout=0.25).patience == 0.25


def test_a_request_waits_as_long_as_a_connection_may_take_unless_said_otherwise() -> None:
    assert BackendSettings("app", timeout_connect=7.0).queue_patience == 7.0
    assert BackendSettings("app", timeout_connect=7.0, timeout_queue=1.0).queue_patience == 1.0


@pytest.mark.parametrize(
    ("host", "written"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("db.example", "db.example:80")]
)
def test_an_address_is_written_so_that_it_can_be_read_back(host: str, written: str) -> None:
    assert ServerSettings("s1", host, 80).address == written
    assert Listen(host, 80).address == written


def test_listening_everywhere_has_a_name() -> None:
    assert Listen("", 8080).address == "0.0.0.0:8080"
