from __future__ import annotations

import pytest

from lbservice.wire.fields import field_value

FIELDS = b"Accept: */*\r\nX-Priority: high\r\nX-Priority: low\r\nX-Empty:\r\nX.Odd: 1\r\nOther: X-Priority: no\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Accept", b"*/*"),
        ("x-priority", b"high"),
        ("X-PRIORITY", b"high"),
        ("X-Empty", b""),
        ("X-Prio", None),
        ("Priority", None),
        ("X.Odd", b"1"),
        ("XaOdd", None),
        ("Other", b"X-Priority: no"),
    ],
)
def test_the_first_field_of_that_name_whatever_its_case(name: str, value: bytes | None) -> None:
    assert field_value(FIELDS, name) == value


def test_of_no_fields() -> None:
    assert field_value(b"", "Accept") is None
