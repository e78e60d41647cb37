from __future__ import annotations

from dataclasses import dataclass

import pytest

from lbservice.admin.table import Report, Table, Text, cell, columns, duration


@dataclass(frozen=True, slots=True)
class Row:
    server: str
    since: float
    in_flight: int
    backup: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    server: str
    reason: str
    weight: int


class TestTable:
    """A table is its rows, and prints them aligned."""

    def test_numbers_and_durations_stand_right_words_left(self) -> None:
        table = Table([Row("app/s1", 7380.0, 3), Row("app/long-name", 0.42, 1200, True)])
        assert repr(table) == (
            "SERVER         SINCE  IN FLIGHT  BACKUP\n"
            "app/s1         2h03m          3  no\n"
            "app/long-name   0.4s       1200  yes"
        )

    def test_no_rows_say_so_in_words(self) -> None:
        assert repr(Table[Row]([], empty="no servers")) == "no servers"

    def test_rows_can_be_worked_with(self) -> None:
        table = Table([Row("a", 1.0, 1), Row("b", 2.0, 2), Row("c", 3.0, 3)])
        assert table[1].server == "b"
        assert [row.server for row in table] == ["a", "b", "c"]
        assert len(table[1:]) == 2
        assert repr(table[5:]) == "nothing"

    def test_what_a_server_said_cannot_command_the_terminal(self) -> None:
        assert cell("L7STS \x1b[2Jgone\r\nback") == "L7STS ?[2Jgone??back"

    def test_a_narrow_window_cuts_words_first_and_columns_then(self) -> None:
        table = Table([Row("app/s1", 1.0, 3), Row("app/a-name-of-30-letters-and-more", 2.0, 1200, True)])
        assert table.shown(80, 24) == repr(table)
        for width in (60, 50, 40, 36):
            lines = table.shown(width, 24).splitlines()
            assert max(map(len, lines[:3])) <= width
        assert lines[1:3] == ["app/s1", "app/a-name-of-30-letters-and-more"], "what a row is about stays whole"
        assert lines[3] == "… without SINCE, IN FLIGHT, BACKUP: the window is narrow; print(_) shows all"

    def test_long_words_are_cut_before_a_column_goes(self) -> None:
        table = Table([Said("app/s1", "a reason of many words", 7)])
        assert table.shown(30, 24).splitlines() == ["SERVER  REASON          WEIGHT", "app/s1  a reason of m…       7"]

    def test_a_long_table_says_how_much_more_there_is(self) -> None:
        table = Table([Row(f"app/s{number}", 1.0, 1) for number in range(100)])
        lines = table.shown(80, 24).splitlines()
        assert len(lines) == 22
        assert lines[-1] == "… 80 more rows; print(_) shows all, _[20:40] the next"
        assert lines[-2].startswith("app/s19 ")

    def test_choices_stand_in_columns(self) -> None:
        assert columns(["app", "app/s1", "app/s2"], 18, 24) == "app     app/s1\napp/s2\n"
        assert columns([f"s{number}" for number in range(100)], 20, 6).splitlines()[-1] == "… 88 more; type on"

    def test_a_long_cell_is_cut(self) -> None:
        assert len(cell("x" * 500)) == 60
        assert cell("x" * 60) == "x" * 60

    def test_a_report_shows_its_parts_under_each_other(self) -> None:
        assert repr(Report(Text("up 5s"), Table[Row]([]))) == "up 5s\n\nnothing"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (0.42, "0.4s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3599.9, "1h00m"),
        (7380, "2h03m"),
        (86400 * 3 + 4 * 3600 + 59 * 60, "3d04h"),
        (-1, "-"),
        (float("inf"), "-"),
        (float("nan"), "-"),
    ],
)
def test_a_duration_is_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
