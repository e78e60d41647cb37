"""The HTTP API: `Control` for programs. One table of routes (`routes`) is all that it can do; the rest follows from it.

A request comes in by `channel`, is let in by `guard` and `login`, finds its route in `desk`, and gets an answer, or a
`Problem`. `openapi` describes the same table.
"""
