"""The shell over ssh: public keys, passwords if there is a file of them, and nothing but the shell (no forwarding).

With a terminal it is the prompt; without one (`echo ... | ssh -p PORT HOST`, or a command as the
last argument) it runs the text, answers errors on stderr and exits 1 after one.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.conch.avatar import ConchUser
from twisted.conch.error import ConchError
from twisted.conch.interfaces import IConchUser, ISession
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import (
    EXTENDED_DATA_STDERR,
    MSG_CHANNEL_OPEN_FAILURE,
    OPEN_UNKNOWN_CHANNEL_TYPE,
    SSHConnection,
)
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.session import SSHSession, SSHSessionProcessProtocol
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from lbservice.admin.history import Histories
from lbservice.admin.keys import SIGNATURES, AuthorizedKeys, KeyChecker, host_key, printable
from lbservice.admin.listening import MOST
from lbservice.admin.passwords import PasswordFile, Passwords
from lbservice.admin.session import Session, Terminal, TerminalServer, run_script
from lbservice.core.settings import ManholeSettings
from lbservice.services.control import Control

LONGEST_SCRIPT = 1024 * 1024

CONCH = Logger("twisted.conch.ssh")
"""What conch has to say of its protocol stays conch's; in a subclass it would pass for an event of ours."""


class Pipe:
    """What conch asks of a transport, in front of one of our channels."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def write(self, data: bytes) -> None:
        self.channel.received(data)

    def loseConnection(self) -> None:
        """The channel is closing already; `Channel.closed` follows."""


class TerminalPipe:
    """The transport of a terminal: writes to the channel, and closes it with status 0."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def write(self, data: bytes) -> None:
        assert self.channel.process is not None
        self.channel.process.write(data)

    def loseConnection(self) -> None:
        self.channel.end(0)


@implementer(ISession)
class Channel:
    """One session channel of one login: a terminal if it asked for one, else a script."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.session = Session(user.control, user.actor, user.histories)
        self.size: tuple[int, int] | None = None
        self.process: SSHSessionProcessProtocol | None = None
        self.terminal: TerminalServer | None = None
        self.commanded = False
        self.script = bytearray()

    # -- what conch calls ------------------------------------------------------------------

    def getPty(self, term: bytes, windowSize: tuple[int, int, int, int], modes: object) -> None:
        rows, columns, *_ = windowSize
        self.size = columns, rows

    def windowChanged(self, newWindowSize: tuple[int, int, int, int]) -> None:
        rows, columns, *_ = newWindowSize
        if self.terminal:
            self.terminal.resize(columns, rows)

    def openShell(self, proto: SSHSessionProcessProtocol) -> None:
        self._begin(proto)
        if self.size:
            self.terminal = TerminalServer(Terminal, self.session)
            self.terminal.makeConnection(TerminalPipe(self))
            self.terminal.resize(*self.size)
        proto.makeConnection(Pipe(self))  # hands over what has arrived

    def execCommand(self, proto: SSHSessionProcessProtocol, command: bytes) -> None:
        self._begin(proto)
        self.commanded = True
        proto.makeConnection(Pipe(self))
        # Later, because conch says yes to the request after this returns, and must say it first.
        self.user.reactor.callLater(0, self.run, command)

    def eofReceived(self) -> None:
        if self.terminal:
            self.end(0)
        elif self.process and not self.commanded:
            self.run(bytes(self.script))

    def closed(self) -> None:
        if self.terminal:
            self.terminal.connectionLost(Failure(connectionDone.value))
        if self.process:
            self.process = None
            self.session.closed()

    # -- what we do with it ----------------------------------------------------------------

    def _begin(self, process: SSHSessionProcessProtocol) -> None:
        self.process = process
        self.session.opened()

    def received(self, data: bytes) -> None:
        if self.terminal:
            self.terminal.dataReceived(data)
            return
        self.script += data
        if len(self.script) > LONGEST_SCRIPT:
            self.end(1, f"a script may have at most {LONGEST_SCRIPT} bytes\n")

    def run(self, script: bytes) -> None:
        if self.process is None:
            return
        process = self.process
        error = run_script(self.session, script, lambda text: process.write(text.encode("utf-8", "backslashreplace")))
        self.end(1 if error else 0, error)

    def end(self, status: int, error: str = "") -> None:
        """Close the channel; the client exits with the status."""
        if self.process is None:
            return
        channel = self.process.session
        if error:
            channel.writeExtended(EXTENDED_DATA_STDERR, error.encode("utf-8", "backslashreplace"))
        if channel.conn is not None and not channel.localClosed:
            channel.conn.sendRequest(channel, b"exit-status", struct.pack(">L", status))
        channel.loseConnection()


class User(ConchUser):
    """Somebody who was let in. Nothing but sessions can be opened."""

    def __init__(self, actor: str, control: Control, reactor: Any, histories: Histories) -> None:
        super().__init__()
        self.actor = actor
        self.control = control
        self.reactor = reactor
        self.histories = histories
        self.channelLookup[b"session"] = SSHSession

    def __conform__(self, interface: type[Interface]) -> object:
        """A session of its own for each channel; a client may open several over one connection."""
        return Channel(self) if interface is ISession else None


@implementer(IRealm)
class Realm:
    """Makes the user of a login."""

    def __init__(self, control: Control, reactor: Any) -> None:
        self.control = control
        self.reactor = reactor
        self.histories = Histories()

    def requestAvatar(self, avatarId: str, mind: object, *interfaces: type[Interface]) -> tuple[Any, User, Any]:
        if IConchUser not in interfaces:
            raise ConchError("only ssh sessions")
        return IConchUser, User(avatarId, self.control, self.reactor, self.histories), lambda: None


@implementer(ICredentials)
class Password:
    """What somebody at an address says is the password of a name."""

    def __init__(self, name: bytes, password: bytes, address: str) -> None:
        self.name = name
        self.password = password
        self.address = address


class PasswordChecker:
    """The avatar's id is the actor, `NAME (ssh password)`."""

    credentialInterfaces = (ICredentials,)

    def __init__(self, passwords: Passwords) -> None:
        self.passwords = passwords

    def requestAvatarId(self, login: Password) -> Deferred[str]:
        return Deferred.fromCoroutine(self._ask(login))

    async def _ask(self, login: Password) -> str:
        if not await self.passwords.check(login.name, login.password, login.address, "ssh"):
            raise UnauthorizedLogin("wrong password")
        return f"{printable(login.name)} (ssh password)"


class Login(SSHUserAuthServer):
    """Conch's, with the times that its comments mean: it would wait ten hours for a login."""

    loginTimeout = 60
    attemptsBeforeDisconnect = 10
    interfaceToMethod = SSHUserAuthServer.interfaceToMethod | {ICredentials: b"password"}

    def serviceStarted(self) -> None:
        self._log = CONCH
        super().serviceStarted()

    def auth_password(self, packet: bytes) -> Deferred[Any]:
        transport: Any = self.transport
        login: Any = Password(self.user or b"", getNS(packet[1:])[0], transport.transport.getPeer().host)
        return transport.factory.portal.login(login, None, IConchUser)  # type: ignore[no-any-return]


class Multiplexer(SSHConnection):
    """Conch's, but it refuses other channels than sessions without a traceback in the log."""

    def serviceStarted(self) -> None:
        self._log = CONCH
        super().serviceStarted()

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        kind, rest = getNS(packet)
        if kind == b"session":
            super().ssh_CHANNEL_OPEN(packet)
            return
        what = struct.pack(">2L", struct.unpack(">L", rest[:4])[0], OPEN_UNKNOWN_CHANNEL_TYPE)
        transport: Any = self.transport
        transport.sendPacket(MSG_CHANNEL_OPEN_FAILURE, what + NS(b"only sessions here") + NS(b""))


class Connection(SSHServerTransport):
    """One ssh connection, known to its factory so that a stop can end it."""

    factory: SshFactory
    transport: Any  # a tcp.Server
    log = Logger()

    def connectionMade(self) -> None:
        self._log = CONCH
        self.factory.connections.add(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except Exception as error:
            if hasattr(self, "avatar"):
                raise
            # Not logged in: nonsense of a stranger, which conch may meet anywhere in its parsing.
            self.log.warn("ssh: nonsense from {peer}: {error!r}", event="shell-nonsense", peer=self.peer, error=error)
            self.transport.abortConnection()

    def sendExtInfo(self, extensions: list[tuple[bytes, bytes]]) -> None:
        """Say which signatures of users will do. Conch would name those of the host's keys, and so none of RSA."""
        super().sendExtInfo([(b"server-sig-algs", b",".join(SIGNATURES))])

    @property
    def peer(self) -> str:
        address = self.transport.getPeer()
        return f"{address.host}:{address.port}"

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        """The client says good-bye. Conch takes that for an error."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.factory.connections.discard(self)
        super().connectionLost(reason)


class SshFactory(SSHFactory):
    """One host key, one realm."""

    noisy = False
    protocol = Connection
    services = {b"ssh-userauth": Login, b"ssh-connection": Multiplexer}

    def __init__(self, settings: ManholeSettings, control: Control, reactor: Any) -> None:
        key = host_key(settings.host_key)
        self._log = CONCH
        self.publicKeys = {key.sshType(): key.public()}
        self.privateKeys = {key.sshType(): key}
        realm: Any = Realm(control, reactor)  # Any: mypy does not see what zope's classes implement
        checkers: list[Any] = []
        # A file that cannot be used stops the start, not the first login.
        if settings.authorized_keys:
            authorized = AuthorizedKeys(settings.authorized_keys)
            authorized.read()
            checkers.append(KeyChecker(authorized))
        if settings.passwords:
            file = PasswordFile(settings.passwords)
            file.read()
            checkers.append(PasswordChecker(Passwords(file, reactor)))
        self.portal = Portal(realm, checkers)
        self.connections: set[Connection] = set()

    def buildProtocol(self, address: Any) -> Any:
        return super().buildProtocol(address) if len(self.connections) < MOST else None
