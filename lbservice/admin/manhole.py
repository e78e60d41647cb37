"""The operators' shell inside the running service: `[manhole]` of lb.ini as a service."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.application.service import Service

from lbservice.core.settings import ManholeSettings
from lbservice.services.control import Control


def manhole(settings: ManholeSettings, control: Control, reactor: Any) -> Service:
    """The service that lets operators in. Its start raises StartError when it cannot listen."""
    # Conch is imported when it is wanted: it takes 20 MB, and it imports the default reactor.
    if settings.unix is not None:
        from lbservice.admin.unix import UnixManhole

        return UnixManhole(settings.unix, control, reactor)
    from lbservice.admin.listening import TcpManhole

    if settings.telnet is not None:
        from lbservice.admin.telnet import TelnetFactory

        return TcpManhole("telnet", settings.telnet, partial(TelnetFactory, settings, control, reactor), reactor)
    from lbservice.admin.ssh import SshFactory

    assert settings.ssh is not None
    return TcpManhole("ssh", settings.ssh, partial(SshFactory, settings, control, reactor), reactor)
