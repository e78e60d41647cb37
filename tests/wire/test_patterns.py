"""What all patterns of the codec have in common."""

import re
from types import ModuleType

import pytest

from lbservice.wire import body, forwarded, h1, headers


@pytest.mark.parametrize("module", [body, forwarded, h1, headers], ids=lambda module: module.__name__)
def test_no_group_is_possessive_because_python_before_3_11_5_matches_those_wrongly(module: ModuleType) -> None:
    patterns = [value.pattern for value in vars(module).values() if isinstance(value, re.Pattern)]
    assert patterns
    without_classes = [re.sub(rb"\[(?:\\.|[^\]\\])*\]", b"c", pattern) for pattern in patterns]
    assert [each for each in without_classes if re.search(rb"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+", each)] == []
