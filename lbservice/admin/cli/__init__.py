"""`lbservice`, the command line: a noun a file, and `main`, the group that has them all.

Most commands are questions and changes to a running service: `place` says where it is, `service` talks to its HTTP
API, `show` prints what it answers. `local` has the commands that need no service.

Exit codes: 0 ok, 1 the answer is no, 2 usage, 3 cannot reach the service.
"""

from lbservice.admin.cli.main import main

__all__ = ["main"]
