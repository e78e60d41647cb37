"""One change that somebody made: what the journal, the log and the answer to the operator say of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something: `actor` as he is known there, the `face` that he came by, and why, if he says so.

    Faces are "shell", "api", "cli", "signal" and "file".
    """

    actor: str
    face: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """`verb` was done to `target`; `before` and `after` are the state in words.

    `number` counts all changes since the start, 0 while it has none: it was so already. `at` is the time of day, in
    seconds since 1970. What is not `saved` is gone with the process.
    """

    verb: str
    target: str
    before: str
    after: str
    by: By
    number: int = 0
    at: float = 0.0
    saved: bool = True
    kind: str = "server"
    """What kind of thing the target is, as the log names it; "" for what speaks for itself."""
    details: tuple[str, ...] = ()
    """What else there is to be said of it, line by line."""
    keeper: str = ""
    """The state file that keeps it over a restart, if there is one."""

    @property
    def actor(self) -> str:
        """Who did it."""
        return self.by.actor

    @property
    def changed(self) -> bool:
        """False when it was so already."""
        return self.before != self.after

    @property
    def _fate(self) -> str:
        """What becomes of it if it is not saved."""
        return (
            f"; not in lb.ini, kept in {self.keeper}" if self.keeper else "; a restart forgets it, unless it is saved"
        )

    def __str__(self) -> str:
        if not self.changed:
            said = f"{self.target}: already {self.after}"
        else:
            said = f"{self.target}: {self.verb}, {self.before} -> {self.after}"
            if self.number:
                said += f" (change {self.number}{'' if self.saved else self._fate})"
        return "\n  ".join((said, *self.details))

    __repr__ = __str__
