"""One change that somebody made: what the journal, the log and the answer to the operator say of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """`verb` was done to `target` by `actor`; `before` and `after` are the state in words."""

    verb: str
    target: str
    before: str
    after: str
    actor: str

    @property
    def changed(self) -> bool:
        """False when it was so already."""
        return self.before != self.after

    def __str__(self) -> str:
        if not self.changed:
            return f"{self.target}: already {self.after}"
        return f"{self.target}: {self.verb}, {self.before} -> {self.after}"

    __repr__ = __str__
