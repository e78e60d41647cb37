"""`python -m lbservice.admin.cli`, for where the script is not on the path."""

from lbservice.admin.cli import main

main(prog_name="lbservice")
