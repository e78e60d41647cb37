from __future__ import annotations

import ssl
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbservice.wire.client_hello import MOST_BYTES, MOST_RECORDS, ClientHelloReader, NoClientHello


def client_hello(name: str | None, **how: ssl.TLSVersion) -> bytes:
    """The first bytes of OpenSSL."""
    context = ssl.create_default_context()
    for key, value in how.items():
        setattr(context, key, value)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


HELLO = client_hello("app.example")
MESSAGE = HELLO[5:]


def record(payload: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 1]) + len(payload).to_bytes(2, "big") + payload


def hello(extensions: bytes | None, *, session: bytes = b"", suites: bytes = b"\x13\x01", rest: bytes = b"") -> bytes:
    """A record with a ClientHello that has these extensions."""
    body = (
        b"\x03\x03" + bytes(32) + bytes([len(session)]) + session + len(suites).to_bytes(2, "big") + suites + b"\x01\0"
    )
    if extensions is not None:
        body += len(extensions).to_bytes(2, "big") + extensions + rest
    return record(b"\x01" + len(body).to_bytes(3, "big") + body)


def names(*entries: tuple[int, bytes]) -> bytes:
    """The server_name extension."""
    listed = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for kind, name in entries)
    content = len(listed).to_bytes(2, "big") + listed
    return b"\0\0" + len(content).to_bytes(2, "big") + content


def read(data: bytes, size: int = 1 << 20) -> str | None:
    """What is made of these bytes, `size` at a time."""
    reader, name = ClientHelloReader(), None
    for at in range(0, len(data), size):
        name = reader.feed(data[at : at + size])
        if name is not None:
            return name
    return name


class TestTheName:
    @pytest.mark.parametrize("name", ["app.example", "APP.Example", "a_b.example", "xn--caf-dma.example", "localhost"])
    @pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
    def test_is_what_openssl_says(self, name: str, size: int) -> None:
        assert read(client_hello(name), size) == name.lower()

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_in_each_version(self, version: ssl.TLSVersion) -> None:
        assert read(client_hello("a.example", minimum_version=version, maximum_version=version)) == "a.example"

    def test_may_be_missing(self) -> None:
        assert read(client_hello(None)) == ""
        assert read(hello(None)) == ""
        assert read(hello(b"")) == ""

    def test_ends_without_a_dot(self) -> None:
        assert read(hello(names((0, b"App.example.")))) == "app.example"

    def test_may_stand_beside_names_of_other_kinds(self) -> None:
        assert read(hello(names((7, b"\xff"), (0, b"a")))) == "a"

    @pytest.mark.parametrize("size", [16, 100, 1000])
    def test_may_be_spread_over_records(self, size: int) -> None:
        pieces = [MESSAGE[at : at + size] for at in range(0, len(MESSAGE), size)]
        assert len(pieces) <= MOST_RECORDS
        data = b"".join(map(record, pieces))
        assert read(data) == read(data, 1) == "app.example"

    def test_does_not_wait_for_what_comes_behind(self) -> None:
        assert read(HELLO + b"\x17\x03\x03early data") == "app.example"


class TestWhatIsNone:
    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\n",
            b"SSH-2.0-OpenSSH",
            b"\x15\x03\x01\0\x02\x02\x28",
            b"\x16\x02\0\0\x04\x01\0\0\0",
            b"\x16\x03\x01\0\0",
            b"\x16\x03\x01\x40\x01",
            record(b"\x02\0\0\0"),
            record(b"\x01" + (MOST_BYTES + 1).to_bytes(3, "big")),
            record(b"\x01\0\0\0"),
            record(b"\x01\0\0\x22" + bytes(34)),
            hello(b"", session=bytes(33)),
            hello(b"", suites=b""),
            hello(b"", suites=b"\x13\x01\x13"),
            hello(b"\0"),
            hello(b"\0\0\0\x05"),
            hello(b"", rest=b"\0"),
            hello(b"\0\0\0\0"),
            hello(b"\0\0\0\x02\0\0"),
            hello(names()),
            hello(names((0, b""))),
            hello(names((7, b"a"))),
            hello(names((0, b"a"), (0, b"b"))),
            hello(names((0, b"a")) + names((0, b"a"))),
            hello(names((0, b"a\0b"))),
            hello(names((0, b"a b"))),
            hello(names((0, b"caf\xe9"))),
            hello(names((0, b".a"))),
            hello(names((0, b"a" * 256))),
            hello(names((0, b"a"))[:-1]),
        ],
    )
    @pytest.mark.parametrize("size", [1, 1 << 20])
    def test_is_refused(self, data: bytes, size: int) -> None:
        with pytest.raises(NoClientHello):
            read(data, size)

    def test_is_refused_at_its_first_wrong_byte(self) -> None:
        with pytest.raises(NoClientHello):
            read(b"G")
        with pytest.raises(NoClientHello):
            read(b"\x16\x04")

    def test_in_too_many_records(self) -> None:
        with pytest.raises(NoClientHello):
            read(b"".join(record(MESSAGE[at : at + 1]) for at in range(len(MESSAGE))))


class TestAnyBytes:
    @given(st.integers(0, len(HELLO)))
    def test_a_part_is_not_yet_one(self, size: int) -> None:
        assert read(HELLO[:size], 3) == (None if size < len(HELLO) else "app.example")

    @given(st.lists(st.integers(1, 200), max_size=20))
    def test_no_segments_make_a_difference(self, cuts: list[int]) -> None:
        reader, at, name = ClientHelloReader(), 0, None
        for cut in [*cuts, len(HELLO)]:
            if name is None:
                name = reader.feed(HELLO[at : at + cut])
            at += cut
        assert name == "app.example"

    @given(st.binary(max_size=300), st.booleans())
    def test_noise_is_refused_or_waited_for(self, noise: bytes, framed: bool) -> None:
        data = record(b"\x01" + len(noise).to_bytes(3, "big") + noise) if framed else noise
        try:
            assert read(data) in (None, "") or read(data, 1) == read(data)
        except NoClientHello:
            with pytest.raises(NoClientHello):
                read(data, 1)

    @given(st.integers(0, 1 << 32))
    def test_a_hello_with_wrong_bytes_makes_no_other_error(self, seed: int) -> None:
        random = Random(seed)
        data = bytearray(HELLO)
        for _ in range(random.randint(1, 4)):
            data[random.randrange(len(data))] = random.randrange(256)
        results = []
        for size in (1, 5, 1 << 20):
            try:
                results.append(read(bytes(data), size))
            except NoClientHello:
                results.append("refused")
        assert len(set(results)) == 1
