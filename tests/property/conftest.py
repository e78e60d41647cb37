"""Two profiles: `ci` is short and the same each time; `fuzz` (FUZZ=20000 in the environment) is long and new.

`make fuzz` runs the long one. What it finds it prints as small as it can, with a line `@reproduce_failure(...)`:
set above the test it runs that example again. It also keeps it in .hypothesis, and begins with that the next time.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.property.support import FUZZ

_ANY_LENGTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile("ci", derandomize=True, database=None, deadline=None, suppress_health_check=_ANY_LENGTH)
settings.register_profile("fuzz", deadline=None, print_blob=True, suppress_health_check=_ANY_LENGTH)
settings.load_profile("fuzz" if FUZZ else "ci")
