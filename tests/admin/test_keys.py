"""The key files of the ssh manhole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.ssh.keys import Key
from twisted.internet import reactor
from twisted.logger import capturedLogs

from lbservice.admin.keys import AuthorizedKeys, fingerprint, host_key, printable
from lbservice.admin.manhole import manhole
from lbservice.core.settings import ManholeSettings
from lbservice.errors import StartError
from tests.admin.fakes import FakeControl, events


@pytest.fixture
def key() -> Key:
    return Key(Ed25519PrivateKey.generate())


def public_line(key: Key) -> bytes:
    line: bytes = key.public().toString("openssh", comment=b"alice@example")
    return line


class TestHostKey:
    def test_it_is_made_for_its_owner_only_and_kept(self, tmp_path: Path) -> None:
        path = str(tmp_path / "host")
        before = os.umask(0)
        try:
            made = host_key(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert made.sshType() == b"ssh-ed25519"
        assert host_key(path) == made

    @pytest.mark.parametrize("mode", [0o660, 0o604, 0o644])
    def test_one_that_others_may_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "host"
        host_key(str(path))
        path.chmod(mode)
        with pytest.raises(StartError, match=f"mode {mode:04o} lets others (read|change) it; run chmod 600"):
            host_key(str(path))

    def test_a_file_that_is_no_private_key_is_refused_and_kept(self, tmp_path: Path, key: Key) -> None:
        path = tmp_path / "host"
        for content, why in ((b"precious", "is no private key"), (public_line(key), "is a public key")):
            path.write_bytes(content)
            path.chmod(0o600)
            with pytest.raises(StartError, match=why):
                host_key(str(path))
            assert path.read_bytes() == content

    def test_a_folder_that_is_not_there_is_said_so(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match="cannot be made: No such file or directory"):
            host_key(str(tmp_path / "nowhere" / "host"))


class TestAuthorizedKeys:
    def test_it_is_read_anew_at_each_login_for_any_name(self, tmp_path: Path, key: Key) -> None:
        path = tmp_path / "admins.pub"
        path.write_bytes(b"# nobody yet\n\n")
        path.chmod(0o644)
        authorized = AuthorizedKeys(str(path))
        assert authorized.getAuthorizedKeys(b"alice") == []
        path.write_bytes(public_line(key))
        assert authorized.getAuthorizedKeys(b"alice") == [key.public()]
        assert authorized.getAuthorizedKeys(b"bob") == [key.public()]

    def test_a_line_with_options_or_damage_is_left_out_and_said(self, tmp_path: Path, key: Key) -> None:
        path = tmp_path / "admins.pub"
        lines = [
            b'from="10.0.0.1" ' + public_line(key),
            b"ssh-ed25519 AAAA!!!!",
            b"ssh-ed25519",
            key.toString("openssh").splitlines()[0],
        ]
        path.write_bytes(b"\n".join([*lines, b"#", public_line(key)]))
        path.chmod(0o600)
        with capturedLogs() as logged:
            assert AuthorizedKeys(str(path)).read() == [key.public()]
        assert [event["line"] for event in events(list(logged), "shell-key-ignored")] == [1, 2, 3, 4]

    @pytest.mark.parametrize("mode", [0o664, 0o606])
    def test_a_file_that_others_may_write_lets_nobody_in(self, tmp_path: Path, key: Key, mode: int) -> None:
        path = tmp_path / "admins.pub"
        path.write_bytes(public_line(key))
        path.chmod(mode)
        with pytest.raises(StartError, match="lets others write to it"):
            AuthorizedKeys(str(path)).read()
        with capturedLogs() as logged:
            assert AuthorizedKeys(str(path)).getAuthorizedKeys(b"alice") == []
        assert len(events(list(logged), "shell-refused")) == 1

    def test_a_start_without_the_file_fails_and_says_which(self, tmp_path: Path) -> None:
        settings = ManholeSettings(
            ssh=("127.0.0.1", 0),
            authorized_keys=str(tmp_path / "nobody.pub"),
            host_key=str(tmp_path / "host"),
        )
        service = manhole(settings, FakeControl(), reactor)
        with pytest.raises(StartError, match=r"authorized-keys = .*nobody\.pub: No such file"):
            service.startService()


def test_a_fingerprint_is_the_one_of_ssh_keygen() -> None:
    line = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl github"
    blob = Key.fromString(line).blob()
    assert fingerprint(blob) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


def test_a_strangers_name_is_fit_for_the_log() -> None:
    assert printable(b"alice") == "alice"
    assert printable(b"a\r\nb\x1b[2J\xff") == "a??b?[2J\\xff"
    assert len(printable(b"x" * 1000)) == 64
