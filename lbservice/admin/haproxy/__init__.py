"""haproxy.cfg -> lb.ini: the common subset, and a reason for each line that is left behind.

`reader` finds sections and words, `translate` goes through them. What a line becomes is said in tables of keywords:
`frontend` and `backend`, with `server`, `check` and `condition` for the lines that are languages of their own. A line
that cannot be carried raises `Left` with the reason. What was written is then read as lb.ini: a value that lb.ini does
not take is left behind, too.
"""

from lbservice.admin.haproxy.translate import Import, translate

__all__ = ["Import", "translate"]
