"""The answers that we give ourselves: small, self-contained, without a byte that the client sent."""

from __future__ import annotations

from dataclasses import dataclass

REASONS = {
    200: ("OK", "This is the load balancer; the request was not to go further."),
    301: ("Moved Permanently", "This is to be found elsewhere."),
    302: ("Found", "This is to be found elsewhere."),
    303: ("See Other", "This is to be found elsewhere."),
    307: ("Temporary Redirect", "This is to be found elsewhere."),
    308: ("Permanent Redirect", "This is to be found elsewhere."),
    400: ("Bad Request", "The request breaks the rules of HTTP/1.1 and was not passed on."),
    403: ("Forbidden", "You may not have this."),
    404: ("Not Found", "There is nothing here."),
    405: ("Method Not Allowed", "This method is not served here."),
    408: ("Request Timeout", "The request did not arrive in time."),
    410: ("Gone", "This is not here any more."),
    413: ("Content Too Large", "The request's body is larger than allowed here."),
    414: ("URI Too Long", "The request line is longer than allowed here."),
    417: ("Expectation Failed", "The Expect field asks for something unknown."),
    421: ("Misdirected Request", "This host is not served here."),
    429: ("Too Many Requests", "You have asked too often. Please try again later."),
    431: ("Request Header Fields Too Large", "The request's fields are larger or more than allowed here."),
    500: ("Internal Server Error", "Something went wrong in the load balancer itself; its log says what."),
    501: ("Not Implemented", "The request's transfer coding is not implemented."),
    502: ("Bad Gateway", "The server behind gave an invalid answer or none."),
    503: ("Service Unavailable", "No server is available to handle this request. Please try again soon."),
    504: ("Gateway Timeout", "The server behind did not answer in time."),
    505: ("HTTP Version Not Supported", "Only HTTP/1.0 and HTTP/1.1 are served here."),
}

_PAGE = (
    "<!DOCTYPE html>\n"
    '<html lang="en"><head><meta charset="utf-8"><title>{status} {reason}</title></head>\n'
    "<body><h1>{status} {reason}</h1><p>{sentence}</p></body></html>\n"
)

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".htm": "text/html; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/xml",
}
"""What a page from a file is, by the end of its name."""
MOST_BYTES = 256 * 1024
"""Bytes of a page from a file, which is kept in memory."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page that somebody else has written, to be sent in place of ours."""

    content_type: str
    body: bytes


def error_response(
    status: int,
    *,
    close: bool,
    date: bytes,
    retry_after: int | None = None,
    request_id: bytes = b"",
    with_body: bool = True,
    page: Page | None = None,
    fields: bytes = b"",
) -> bytes:
    """A whole response. `date` is as in the field, `retry_after` seconds; `with_body` is False in answer to HEAD.

    `page` stands in place of ours; `fields` are further field lines.
    """
    reason, sentence = REASONS[status]
    if page is None:
        page = Page(CONTENT_TYPES[".html"], _PAGE.format(status=status, reason=reason, sentence=sentence).encode())
    body = page.body
    head = [
        f"HTTP/1.1 {status} {reason}",
        f"Date: {date.decode('ascii')}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(body)}",
    ]
    if status not in (301, 308):  # they are for good, and whoever wrote so wants them remembered
        head.append("Cache-Control: no-store")
    if retry_after is not None:
        head.append(f"Retry-After: {retry_after}")
    if request_id:
        head.append(f"X-Request-ID: {request_id.decode('ascii')}")
    if close:
        head.append("Connection: close")
    return "\r\n".join(head).encode() + b"\r\n" + fields + b"\r\n" + (body if with_body else b"")
