"""Settings in the words of lb.ini: what is written is read back as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.config import parse, parse_server
from lbservice.core.settings import ServerSettings, ServerTls
from lbservice.values import duration
from lbservice.writing import differences, duration_words, sentence, server_words

CA = str(Path(__file__).resolve())
"""Any file that can be read."""

HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True),
)
PORTS = st.integers(1, 65535)
DURATIONS = st.builds(
    lambda number, unit: duration(f"{number}{unit}"),
    st.one_of(
        st.integers(1, 999_999_999).map(str),
        st.decimals("1", "999999999", places=3, allow_nan=False).map(lambda number: f"{number:f}"),
    ),
    st.sampled_from(["ms", "s", "m", "h"]),
)
SERVERS = st.builds(
    ServerSettings,
    name=st.from_regex(r"[A-Za-z0-9_.:-]{1,12}", fullmatch=True),
    host=HOSTS,
    port=PORTS,
    weight=st.integers(0, 256),
    maxconn=st.integers(0, 1_000_000),
    backup=st.booleans(),
    check=st.booleans(),
    tls=st.none()
    | st.builds(
        ServerTls,
        verify=st.booleans(),
        ca=st.none() | st.just(CA),
        sni=st.none() | st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True),
    ),
    check_via=st.none() | st.tuples(st.none() | HOSTS, PORTS),
    slowstart=st.none() | DURATIONS,
    state=st.sampled_from(["ready", "drain", "maint"]),
)


@given(SERVERS)
def test_a_server_is_read_back_as_it_was(server: ServerSettings) -> None:
    assert parse_server(server.name, server_words(server)) == server


@given(DURATIONS)
def test_a_duration_is_read_back_as_it_was(seconds: float) -> None:
    assert duration(duration_words(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3600.0, "1h"), (90.0, "90s"), (120.0, "2m"), (0.25, "250ms"), (0.0015, "1.5ms"), (1.2345678, "1234.5678ms")],
)
def test_a_duration_has_the_largest_unit_without_a_fraction(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "127.0.0.1:80"),
        ({"host": "::1"}, "[::1]:80"),
        ({"weight": 2, "maxconn": 9, "backup": True}, "127.0.0.1:80 weight=2 maxconn=9 backup"),
        ({"check_via": ("::1", 9)}, "127.0.0.1:80 check-via=[::1]:9"),
        ({"check": False, "state": "maint"}, "127.0.0.1:80 no-check state=maint"),
        ({"tls": ServerTls(verify=False, sni="a.example")}, "127.0.0.1:80 tls verify=no sni=a.example"),
    ],
)
def test_only_what_is_not_usual_is_said(values: dict[str, Any], words: str) -> None:
    assert server_words(replace(ServerSettings("s1", "127.0.0.1", 80), **values)) == words


INI = "[frontend web]\nlisten = :80\nbackend = app\n[backend app]\nretries = 1\nserver s1 = a:1 weight=1\n"


class TestDifferences:
    def test_none(self) -> None:
        assert [*differences(parse(INI), parse(INI))] == []

    def test_another_way_to_write_a_server_is_none(self) -> None:
        assert [*differences(parse(INI), parse(INI.replace(" weight=1", "")))] == []

    def test_what_is_changed_there_and_not_there(self) -> None:
        other = INI.replace("retries = 1", "maxqueue = 5").replace("weight=1", "weight=2") + "server s2 = b:2\n"
        assert [*differences(parse(INI), parse(other))] == [
            ("backend app", "retries", "1", ""),
            ("backend app", "server s1", "a:1", "a:1 weight=2"),
            ("backend app", "maxqueue", "", "5"),
            ("backend app", "server s2", "", "b:2"),
        ]

    def test_in_a_sentence(self) -> None:
        assert sentence("backend app", "retries", "1", "") == "[backend app] retries: 1 -> absent"
