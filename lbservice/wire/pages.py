"""The answers that we give ourselves: small, self-contained, without a byte that the client sent."""

from __future__ import annotations

REASONS = {
    200: ("OK", "This is the load balancer; the request was not to go further."),
    400: ("Bad Request", "The request breaks the rules of HTTP/1.1 and was not passed on."),
    405: ("Method Not Allowed", "This method is not served here."),
    408: ("Request Timeout", "The request did not arrive in time."),
    414: ("URI Too Long", "The request line is longer than allowed here."),
    417: ("Expectation Failed", "The Expect field asks for something unknown."),
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


def error_response(
    status: int,
    *,
    close: bool,
    date: bytes,
    retry_after: int | None = None,
    request_id: bytes = b"",
    with_body: bool = True,
) -> bytes:
    """A whole response. `date` is as in the field, `retry_after` seconds; `with_body` is False in answer to HEAD."""
    reason, sentence = REASONS[status]
    body = _PAGE.format(status=status, reason=reason, sentence=sentence).encode()
    head = [
        f"HTTP/1.1 {status} {reason}",
        f"Date: {date.decode('ascii')}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
    ]
    if retry_after is not None:
        head.append(f"Retry-After: {retry_after}")
    if request_id:
        head.append(f"X-Request-ID: {request_id.decode('ascii')}")
    if close:
        head.append("Connection: close")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + (body if with_body else b"")
