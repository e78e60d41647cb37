"""TLS contexts: TLS 1.2 at least, OpenSSL through Twisted's memory-BIO transport."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet import ssl
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from lbservice.core.settings import ListenTls, ServerTls
from lbservice.errors import StartError


class _Transport(BufferingTLSTransport):
    """Twisted's, without the cycle of failure, traceback and frames that each of its connections leaves behind."""

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        if reason is not None and reason.value is not None:
            reason.tb = reason.value.__traceback__ = None
        super()._tlsShutdownFinished(reason)


class _Factory(TLSMemoryBIOFactory):
    protocol = _Transport


@implementer(IOpenSSLServerConnectionCreator)
class _ServerConnections:
    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context, None)


@implementer(IOpenSSLClientConnectionCreator)
class _UnverifiedConnections:
    """For `verify=no`: encrypted, and nobody knows to whom."""

    def __init__(self, context: SSL.Context, sni: str | None) -> None:
        self._context = context
        self._sni = sni

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._sni:
            connection.set_tlsext_host_name(self._sni.encode("idna"))
        return connection


def listening(factory: Any, tls: ListenTls, clock: Any, client_ca: str | None = None) -> Any:
    """The factory behind TLS, with the certificate chain of `tls.cert`. Raises StartError for unusable files.

    With `client_ca`, a PEM file of authorities, clients must have a certificate of theirs.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_id(b"lbservice")
    context.set_alpn_select_callback(
        lambda connection, offered: b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    try:
        context.use_certificate_chain_file(tls.cert)
        context.use_privatekey_file(tls.key or tls.cert)
        context.check_privatekey()
    except (SSL.Error, OSError) as error:
        key = "" if tls.key is None else f" and key {tls.key}"
        raise StartError(
            f"tls: certificate {tls.cert}{key} cannot be used; both must be PEM, and belong together"
        ) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (SSL.Error, OSError) as error:
            raise StartError(f"tls: client-ca {client_ca} cannot be used; it must be PEM") from error
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    creator: Any = _ServerConnections(context)
    return _Factory(creator, False, factory, clock)


def forget_authorities() -> None:
    """Read the files of `ca=` again when they are needed next."""
    _client_creator.cache_clear()


@lru_cache(maxsize=1024)
def _client_creator(host: str, tls: ServerTls) -> Any:
    if not tls.verify:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        return _UnverifiedConnections(context, tls.sni)
    trust = None if tls.ca is None else ssl.trustRootFromCertificates(authorities(tls.ca))
    return ssl.optionsForClientTLS(
        tls.sni or host,
        trustRoot=trust,
        extraCertificateOptions={"raiseMinimumTo": ssl.TLSVersion.TLSv1_2},
    )


def authorities(path: str) -> list[ssl.Certificate]:
    """The certificates of a `ca=` file. Raises OSError if it cannot be read, ValueError if there are none in it."""
    with open(path, "rb") as file:
        pems = _certificates(file.read())
    try:
        found = [ssl.Certificate.loadPEM(pem) for pem in pems]
    except (SSL.Error, crypto.Error) as error:
        raise ValueError(f"{path} cannot be used; it must be certificates in PEM") from error
    if not found:
        raise ValueError(f"{path} holds no certificate; it must be certificates in PEM")
    return found


def _certificates(pem: bytes) -> list[bytes]:
    end = b"-----END CERTIFICATE-----"
    return [part + end for part in pem.split(end)[:-1]]


def dialing(factory: Any, host: str, tls: ServerTls, clock: Any) -> Any:
    """The client factory behind TLS, verified against `tls.sni` or the server's host."""
    return _Factory(_client_creator(host, tls), True, factory, clock)
