"""What a value on the command line means: durations and statuses as everywhere else in lbservice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lbservice.admin.cli import logline
from lbservice.values import duration

if TYPE_CHECKING:
    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # no generic class in older versions of click


class Seconds(Kind):
    """A duration as in lb.ini: 500ms, 30s, 5m."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return value if isinstance(value, float) else duration(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


class Status(Kind):
    """A status or a class of them: 503, 5xx."""

    name = "status"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return logline.status(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
