"""One operator's time at the shell, whichever door it came in by.

A `Session` knows who it is and writes down what is typed. Two protocols run it: `Terminal` for
people (prompt, colours, history, Tab) and `run_script` for programs (text in, text out). Ending a
session never ends the process, and no mistake typed here leaves a traceback in the service's log.
"""

from __future__ import annotations

import ast
import code
import os
import pydoc
import re
import sys
import tokenize
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from twisted.conch.insults import insults
from twisted.conch.manhole import ColoredManhole, Manhole, ManholeInterpreter
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbservice.admin.completion import completions
from lbservice.admin.history import Histories
from lbservice.admin.manual import Manual, is_of
from lbservice.admin.shell import Shell
from lbservice.admin.table import Report, Table, Text, columns
from lbservice.errors import ControlError
from lbservice.services.control import Control
from lbservice.services.typed import TYPED, Interrupted

LONGEST_LINE = 16 * 1024
"""Characters of a line; what is typed or pasted beyond is not taken."""
LONGEST_STATEMENT = 256 * 1024
LONGEST_SHOWN = 1000
"""Characters of a line in the log."""


class Session:
    """Who is at the shell, with names of their own to work with; one event for every line typed."""

    log = Logger()

    def __init__(self, control: Control, actor: str, histories: Histories | None = None) -> None:
        self.actor = actor
        self.control = control
        self.histories = Histories() if histories is None else histories
        self.shell = Shell(control, actor)
        self.manual = Manual(self.shell, control)
        leave = Leave()
        self.namespace: dict[str, Any] = {
            "__name__": "__console__",
            "__doc__": None,
            "lb": self.shell,
            "control": control,
            "exit": leave,
            "quit": leave,
            "help": Help(self.shell, self.manual),
        }

    def opened(self) -> None:
        self.log.info("shell opened by {actor}", event="shell-opened", actor=self.actor)

    def typed(self, line: str) -> None:
        if line.strip():
            self.log.info("shell {actor} typed: {line}", event="shell", actor=self.actor, line=shown(line))

    def closed(self) -> None:
        self.log.info("shell closed by {actor}", event="shell-closed", actor=self.actor)


_SECRET = re.compile(r"""((?:passw|secret|token|api_?key)\w*["']?\s*[=:(,]+\s*[bfru]{0,2})(["']).*?\2""", re.I)


def shown(text: str) -> str:
    """What was typed, for the log: cut, and without what looks like a secret in quotes."""
    text = _SECRET.sub(r"\1\2***\2", text[: 4 * LONGEST_SHOWN])
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}… (cut)"


class Leave:
    """`exit`. The one of `site` would close the standard input of the whole process first."""

    def __repr__(self) -> str:
        return "exit() or Ctrl-D ends this session; the load balancer goes on"

    def __call__(self, status: object = None) -> NoReturn:
        raise SystemExit(status)


class Help:
    """`help`. The one of `site`, called with nothing, would read from the service's own terminal."""

    def __init__(self, shell: Shell, manual: Manual) -> None:
        self.shell = shell
        self.manual = manual

    def __repr__(self) -> str:
        return repr(self.shell.help())

    def __call__(self, about: object = None) -> object:
        if about is None or about is self.shell:
            return self.shell.help()
        if verb := is_of(self.shell, about):
            return self.manual.page(verb)
        return Text(pydoc.plain(pydoc.render_doc(about)).rstrip())


class Interpreter(ManholeInterpreter):
    """Conch's interpreter, with what an operator got wrong told in one line."""

    source = ""
    """What is being run, as it was typed."""

    def __init__(self, handler: Any, session: Session) -> None:
        super().__init__(handler, session.namespace)
        self.session = session

    def runcode(self, code: Any) -> None:
        with TYPED.running(self.session.actor, shown(self.source)):
            super().runcode(code)

    def push(self, line: bytes) -> bool:
        if sum(map(len, self.buffer)) + len(line) > LONGEST_STATEMENT:
            self.resetBuffer()
            self.handler.addError(f"a statement may have at most {LONGEST_STATEMENT} bytes\n")
            return False
        self.source = b"\n".join([*self.buffer, line]).decode("ascii", "backslashreplace")
        try:
            return bool(super().push(line))
        except (RecursionError, MemoryError) as error:  # the compiler gave up
            self.resetBuffer()
            self.handler.addError(f"{type(error).__name__}: {error}\n")
            return False

    def displayhook(self, obj: object) -> None:
        size = getattr(self.handler, "size", None)
        if size is not None and isinstance(obj, Table | Report):
            self.locals["_"] = obj
            self.write(obj.shown(*size))
        else:
            super().displayhook(obj)
        if obj is not None:  # else two answers of one line would run together
            self.write("\n")

    def excepthook(
        self, excType: type[BaseException], excValue: BaseException, excTraceback: TracebackType | None
    ) -> None:
        if isinstance(excValue, ControlError | Interrupted):
            self.handler.addError(f"{excValue}\n")
            return
        while excTraceback and excTraceback.tb_frame.f_code.co_filename == code.__file__:
            excTraceback = excTraceback.tb_next
        self.handler.addError("".join(traceback.format_exception(excType, excValue, excTraceback)))

    def showsyntaxerror(self, filename: str | None = None, **_: Any) -> None:
        self.handler.addError("".join(traceback.format_exception_only(sys.exc_info()[1])))


class Terminal(ColoredManhole):
    """A person at a terminal."""

    TYPED_AT_ONCE = 16
    """More bytes than this in one read were pasted; colouring them would cost a parse for each."""

    interpreter: Interpreter
    lineBuffer: list[bytes]

    def __init__(self, session: Session) -> None:
        super().__init__(session.namespace)
        self.session = session
        self.gone = False
        self.size: tuple[int, int] | None = None
        """Columns and rows of the window, when they are known; else nothing is cut."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.interpreter = Interpreter(self, self.session)
        self.historyLines = self.session.histories.of(self.session.actor)
        self.historyPosition = len(self.historyLines)
        self.keyHandlers[b"\x08"] = self.handle_BACKSPACE
        self.keyHandlers[b"\x0b"] = self.handle_kill_to_end
        self.keyHandlers[b"\x15"] = self.handle_kill_line

    def connectionLost(self, reason: Failure) -> None:
        self.gone = True

    def initializeScreen(self) -> None:
        """A greeting and a prompt; unlike conch's, it leaves what is on the screen alone."""
        host = os.uname().nodename
        self.terminal.write(f"lbservice on {host}, pid {os.getpid()}: {self.session.shell!r}\n")
        self.terminal.write(self.ps[self.pn])
        self.setInsertMode()

    def terminalSize(self, width: int, height: int) -> None:
        if width > 0 and height > 0:  # else the client does not know
            self.size = self.width, self.height = max(width, 20), max(height, 5)

    def keystrokeReceived(self, keyID: bytes, modifier: object) -> None:
        if self.gone:
            return
        if keyID in self.keyHandlers or keyID in self._printableChars:
            super().keystrokeReceived(keyID, modifier)

    def characterReceived(self, ch: bytes, moreCharactersComing: bool) -> None:
        if len(self.lineBuffer) >= LONGEST_LINE:
            self.terminal.write(b"\a")
            return
        wide = len(self.lineBuffer) + len(self.ps[self.pn]) + 2 > self.width
        if wide or self.terminal.arrived > self.TYPED_AT_ONCE:
            # Nothing to redraw: conch's colouring knows only lines that fit on one row.
            Manhole.characterReceived(self, ch, moreCharactersComing)
            return
        try:
            super().characterReceived(ch, moreCharactersComing)
        except (SyntaxError, tokenize.TokenError):
            self.terminal.write(ch)  # not Python so far; the line buffer has it already

    def lineReceived(self, line: bytes) -> None:
        self.session.typed(line.decode("ascii", "backslashreplace"))
        try:
            super().lineReceived(line)
        except SystemExit:
            self.handle_QUIT()

    def handle_RETURN(self) -> None:
        line = b"".join(self.lineBuffer)
        super().handle_RETURN()
        histories, actor = self.session.histories, self.session.actor
        histories.add(actor, line)
        self.historyLines = histories.of(actor)
        self.historyPosition = len(self.historyLines)

    def handle_QUIT(self) -> None:
        self.gone = True
        self.terminal.loseConnection()

    def handle_TAB(self) -> None:
        before, _ = self.currentLineBuffer()
        stub, matches = completions(before.decode("ascii"), self.session.namespace, self.session.manual)
        if not stub and not matches:
            super().handle_TAB()
            return
        common = shared_start(matches)
        for letter in common[len(stub) :].encode("ascii", "ignore"):
            self.characterReceived(bytes([letter]), False)
        if len(matches) > 1 and common == stub:
            self.terminal.nextLine()
            self.terminal.write(columns(matches, self.width, self.height))
            self.drawInputLine()
            if behind := len(self.lineBuffer) - self.lineBufferIndex:
                self.terminal.cursorBackward(behind)

    def handle_kill_to_end(self) -> None:
        del self.lineBuffer[self.lineBufferIndex :]
        self.terminal.eraseToLineEnd()

    def handle_kill_line(self) -> None:
        behind = self.lineBuffer[self.lineBufferIndex :]
        self.handle_HOME()
        self.lineBuffer[:] = behind
        self.terminal.eraseToLineEnd()
        if behind:
            self.terminal.write(b"".join(behind))
            self.terminal.cursorBackward(len(behind))

    def addOutput(self, data: str, isAsync: bool | None = None) -> None:
        if not self.gone:
            super().addOutput(data, isAsync)

    def addError(self, text: str) -> None:
        self.addOutput(text)


def shared_start(words: list[str]) -> str:
    """What all the words begin with, letter by letter."""
    if not words:
        return ""
    low, high = min(words), max(words)
    return next((low[:index] for index, letter in enumerate(low) if letter != high[index]), low)


class TerminalServer(insults.ServerProtocol):
    """Conch's terminal, which leaves the operator's screen as it is when the session ends."""

    transport: Any  # a socket's, or a channel's of ssh
    arrived = 0
    escBuf: list[bytes]

    WINDOW = re.compile(rb"\x1b\[8;([0-9]{1,4});([0-9]{1,4})t")
    """How a terminal, and `lbservice shell`, tell rows and columns in the stream."""
    LONGEST_SEQUENCE = 64

    def dataReceived(self, data: bytes) -> None:
        self.arrived = len(data)
        super().dataReceived(data)
        if self.state == b"bracket-escaped" and len(self.escBuf) > self.LONGEST_SEQUENCE:
            self.state = b"data"

    def unhandledControlSequence(self, buf: bytes) -> None:
        if match := self.WINDOW.fullmatch(buf):
            self.resize(int(match[2]), int(match[1]))
        else:
            super().unhandledControlSequence(buf)

    def resize(self, columns: int, rows: int) -> None:
        if self.terminalProtocol is not None:
            self.terminalProtocol.terminalSize(columns, rows)

    def loseConnection(self) -> None:
        self.resetModes([insults.modes.IRM])
        self.write(b"\n")
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Conch forgets the terminal here and then falls over what was still to be read.
        if self.terminalProtocol is not None:
            self.terminalProtocol.connectionLost(reason)


class _Output:
    """Where the output of a script goes."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write
        self.error = ""

    def addOutput(self, data: str, isAsync: bool | None = None) -> None:
        if not isAsync:  # a Deferred fired after the script: nobody listens any more
            self.write(data)

    def addError(self, text: str) -> None:
        self.error = text


def run_script(session: Session, text: bytes, write: Callable[[str], object]) -> str:
    """Run a whole text as if typed, up to the first error; that error is the answer, "" if none.

    What the statements print and evaluate to goes to `write`. A text that does not parse does
    nothing at all.
    """
    output = _Output(write)
    interpreter = Interpreter(output, session)
    try:
        source = text.decode()
        statements = ast.parse(source, "<console>").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "".join(traceback.format_exception_only(error))
    lines = source.splitlines()
    told = 0
    for statement in statements:
        for line in lines[max(told, statement.lineno - 1) : statement.end_lineno]:
            session.typed(line.expandtabs(4))
        told = statement.end_lineno or told
        interpreter.source = "\n".join(lines[statement.lineno - 1 : told])
        try:
            interpreter.runcode(compile(ast.Interactive([statement]), "<console>", "single"))
        except SystemExit as leave:
            return f"exit {leave.code}\n" if leave.code else ""
        if output.error:
            return output.error
    return ""
