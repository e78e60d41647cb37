"""What is answered when the answer is no: problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from lbservice.errors import ControlError, InTheWay, NotThere

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that is refused. `detail` is a sentence for people; `headers` go out with it."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """As it goes out."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }


def problem_of(error: ControlError) -> Problem:
    """What `Control` refuses, in the words of HTTP."""
    status = 404 if isinstance(error, NotThere) else 409 if isinstance(error, InTheWay) else 422
    return Problem(status, str(error))
