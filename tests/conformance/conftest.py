"""Each row plays in a house of the proxy's tests, which must be empty and silent at the end."""

from __future__ import annotations

from tests.proxy.conftest import logged_errors, make_house, modules_stay

__all__ = ["logged_errors", "make_house", "modules_stay"]
