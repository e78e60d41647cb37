"""`lbservice top --tui`: the live table as a Textual app, to sort, to filter, and to see the last checks of a server.

It only looks: no key changes anything. Imported only when it is asked for, as Textual is an extra.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from rich.terminal_theme import TerminalTheme
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.widgets import DataTable, Footer, Static

from lbservice.admin.cli import show
from lbservice.admin.cli.command import Talk
from lbservice.admin.cli.failure import Failure
from lbservice.admin.cli.top import COLUMNS, NUMBERS, Look, cells, looks, totals

SORTS = dict(zip("stwrinec", (*COLUMNS[:1], *COLUMNS[2:-1]), strict=True))
"""The columns by their keys."""
LARGEST_FIRST = ("weight", "rate/s", "in flight", "requests", "errors")
PLAIN = [(85 + 170 * red, 85 + 170 * green, 85 + 170 * blue) for blue in (0, 1) for green in (0, 1) for red in (0, 1)]
"""Red is red and yellow is yellow, also on a terminal with 16 colours; Textual's own are pink and orange there."""
CHECKS = 5
"""Checks that are shown of the server under the cursor."""


@dataclass(frozen=True, slots=True)
class Line:
    """One server: what is shown in COLUMNS, and what they are sorted by."""

    server: str
    cells: tuple[str, ...]
    values: dict[str, Any]


@dataclass
class News(Message):
    """What a look at the service has brought, `checks` of that `server`; when it fails, only `trouble`."""

    head: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    server: str = ""
    checks: str = ""
    trouble: str = ""


class Source:
    """Looks at the service, one after the other. Raises Failure when even the first one fails."""

    def __init__(self, talk: Talk, backend: str | None) -> None:
        self.talk, self.backend = talk, backend
        self.last = self._look()

    def __call__(self, server: str = "") -> News:
        """The next look, with the last checks of that server."""
        try:
            now = self._look()
            there = any(row["server"] == server for row in now.servers)
            news = self.news(now, server, self._checks(server) if there else "")
            # Only what could be read counts: the next rate is since then.
            self.last = now
            return news
        except Failure as error:
            return News(trouble=show.plain(error.message))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return News(trouble=show.plain(f"the service's answer cannot be read ({error!r})"))

    def news(self, now: Look, server: str = "", checks: str = "") -> News:
        """What that look says, beside the one before."""
        done = []
        for row, rate in zip(now.servers, now.rates(self.last), strict=True):
            values = {name: row[name.replace(" ", "_")] for name in COLUMNS if name != "rate/s"}
            values["rate/s"] = -1.0 if rate is None else rate
            done.append(Line(row["server"], tuple(cells(row, rate)), values))
        return News(tuple(totals(self.last, now)), tuple(done), server, checks)

    def _look(self) -> Look:
        return next(looks(self.talk, self.backend))

    def _checks(self, server: str) -> str:
        rows = self.talk.service.ask("servers", *server.split("/"), "health")["items"][:CHECKS]
        return show.table(rows, empty="not checked yet")


class Top(App[None]):
    """`ask` is called in a thread of its own: a service that hangs holds up neither the keys nor the end."""

    CSS = """
    #head, #checks { height: auto; padding: 0 1; }
    #checks { border-top: solid $primary; }
    DataTable { height: 1fr; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [
        Binding("q,Q,ctrl+c,ctrl+d", "quit", "leave", key_display="q", priority=True),
        Binding("b", "backend(1)", "next backend"),
        Binding("B", "backend(-1)", "previous backend", show=False),
        *(Binding(key, f"sort({name!r})", name) for key, name in SORTS.items()),
    ]

    def __init__(self, first: News, ask: Callable[[str], News], interval: float) -> None:
        super().__init__()
        self.news, self.ask, self.interval = first, ask, interval
        self.backend = ""
        self.selected = ""
        self.by, self.turned = "server", False
        self.over = Event()
        self.shown: tuple[object, ...] = ()
        self.ansi_theme_dark = TerminalTheme((0, 0, 0), (255, 255, 255), PLAIN, PLAIN)

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Static(id="checks", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        # SIGTERM would leave the terminal as the app has it.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end, 128 + signal.SIGTERM)
        self.draw()
        self.watch_service()

    def on_unmount(self) -> None:
        self.over.set()

    def _end(self, code: int) -> None:
        self.exit(return_code=code)

    def watch_service(self) -> None:
        """Look again and again until the end."""

        def look() -> None:
            with suppress(RuntimeError):  # the app's loop is closed
                while not self.over.wait(self.interval):
                    self.post_message(self.ask(self.selected))

        Thread(target=look, daemon=True).start()

    def on_news(self, news: News) -> None:
        """Show it; in trouble the last table stays, and what is wrong is said above it."""
        if news.trouble:
            self.news.trouble = news.trouble
        else:
            self.news = news
        self.draw()

    def action_sort(self, name: str) -> None:
        """By that column; the second time the other way round."""
        self.turned = not self.turned if name == self.by else False
        self.by = name
        self.draw()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """A click on a heading."""
        self.action_sort(str(event.column_key.value))

    def action_backend(self, step: int) -> None:
        """All, then one backend after the other."""
        names = ["", *sorted({line.server.partition("/")[0] for line in self.news.lines})]
        at = names.index(self.backend) if self.backend in names else 0
        self.backend = names[(at + step) % len(names)]
        self.draw()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """The cursor moved; the checks of that server come with the next look."""
        table = event.data_table
        # Not the row of the event: while a table is built anew the cursor is here and there.
        if table.is_valid_coordinate(table.cursor_coordinate):
            self.selected = str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)
        self._draw_checks()

    def lines(self) -> list[Line]:
        """What is shown, in order."""
        found = [line for line in self.news.lines if self.backend in ("", line.server.partition("/")[0])]
        found.sort(key=lambda line: line.server)
        found.sort(key=lambda line: line.values[self.by], reverse=self.turned != (self.by in LARGEST_FIRST))
        return found

    def draw(self) -> None:
        """Put the last news on the screen."""
        head = Text("\n".join(self.news.head))
        if self.backend:
            head.append(f"\nonly backend {self.backend}")
        if self.news.trouble:
            head.append(f"\n{self.news.trouble}; the table is old", "bold red")
        self.query_one("#head", Static).update(head)
        lines = self.lines()
        order = (self.by, self.turned, *(line.server for line in lines))
        table = self.query_one(DataTable)
        if order == self.shown:
            for line in lines:
                for name, text in self._row(line).items():
                    if table.get_cell(line.server, name) != text:
                        table.update_cell(line.server, name, text, update_width=True)
        else:
            self._rebuild(table, lines)
            self.shown = order
        self._draw_checks()

    def _rebuild(self, table: DataTable[Text], lines: list[Line]) -> None:
        """All anew, with the cursor on the server that it was on."""
        selected = self.selected
        table.clear(columns=True)
        for name in COLUMNS:
            arrow = (" v" if self.turned != (name in LARGEST_FIRST) else " ^") if name == self.by else ""
            table.add_column(Text(name.upper() + arrow), key=name)
        for line in lines:
            table.add_row(*self._row(line).values(), key=line.server)
        servers = [line.server for line in lines]
        if selected in servers:
            table.move_cursor(row=servers.index(selected), animate=False)
        elif not servers:
            self.selected = ""

    @staticmethod
    def _row(line: Line) -> dict[str, Text]:
        """Cells by column. Text, not str: in a str Textual would obey what looks like markup."""
        return {
            name: Text(
                text,
                style=show.colour(text) if name == "state" else "",
                justify="right" if name in NUMBERS else "left",
                no_wrap=True,
            )
            for name, text in zip(COLUMNS, line.cells, strict=True)
        }

    def _draw_checks(self) -> None:
        known = self.news.server == self.selected and self.news.checks
        said = f"last checks of {self.selected}\n{self.news.checks if known else '...'}" if self.selected else ""
        self.query_one("#checks", Static).update(Text.from_ansi(said))


def run(talk: Talk, backend: str | None, interval: float) -> None:
    """Until somebody types q. Raises Failure, with the terminal as it was, when the service is not there at first."""
    source = Source(talk, backend)
    app = Top(source.news(source.last), source, interval)
    app.run()
    if app.return_code:
        raise SystemExit(app.return_code)
