from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from lbservice import tokens
from lbservice.tokens import Token

HASH = "0" * 64


def test_a_new_one_is_found_by_what_the_file_holds() -> None:
    token, line = tokens.make("deploy", "operator")
    (entry,) = tokens.parse(line)
    assert (entry.name, entry.level) == ("deploy", "operator")
    assert token not in line
    assert tokens.find((Token("other", "admin", HASH), entry), token) == entry
    assert tokens.find((entry,), token[:-1]) is None
    assert tokens.find((entry,), entry.digest) is None
    assert tokens.find((), token) is None


def test_it_holds_256_bits_of_chance() -> None:
    made = {tokens.make("a", "viewer")[0] for _ in range(50)}
    assert len(made) == 50
    assert all(len(base64.urlsafe_b64decode(token.removeprefix("lbs_") + "=")) == 32 for token in made)


def test_a_short_one_is_never_let_in_though_the_file_has_its_hash() -> None:
    assert tokens.find((Token("a", "admin", tokens.digest("secret")),), "secret") is None


@pytest.mark.parametrize("name", ["", "a b", "a\n", "-a", "x" * 65, "ä", "#a"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="a name has letters"):
        tokens.make(name, "admin")


def test_comments_and_blank_lines_are_none() -> None:
    assert tokens.parse(f"# who\n\n  deploy\toperator {HASH}  \nalice viewer -\n") == (
        Token("deploy", "operator", HASH),
        Token("alice", "viewer", "-"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deploy operator", "line 1: write NAME LEVEL SHA256"),
        (f"deploy operator {HASH.upper()[:-1]}A", "line 1: write NAME"),
        (f"\ndeploy root {HASH}", "line 2: level root: one of viewer, operator, admin"),
        ("a viewer -\na admin -", "line 2: a is named twice with -"),
    ],
)
def test_lines_that_are_none(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tokens.parse(text)


def test_a_token_in_the_place_of_its_hash_is_not_shown() -> None:
    token, _ = tokens.make("a", "admin")
    with pytest.raises(ValueError, match="line 1") as caught:
        tokens.parse(f"a admin {token}")
    assert token not in str(caught.value)


class TestFile:
    def test_it_is_for_its_owner_only(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        path.write_text(f"a admin {HASH}")
        for mode in (0o640, 0o604, 0o660):
            path.chmod(mode)
            with pytest.raises(ValueError, match=rf"has mode {mode:04o}, which lets others in; run chmod 600"):
                tokens.read(str(path))
        path.chmod(0o600)
        assert tokens.token_file(str(path)) == str(path)
        assert len(tokens.read(str(path))) == 1

    def test_what_is_no_file_of_tokens(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        with pytest.raises(ValueError, match="cannot be read: No such file"):
            tokens.read(str(path))
        path.write_bytes(b"\xff")
        path.chmod(0o600)
        with pytest.raises(ValueError, match="is not UTF-8 text"):
            tokens.read(str(path))
        path.write_text("nonsense")
        with pytest.raises(ValueError, match=f"{path}: line 1: write"):
            tokens.read(str(path))
        os.truncate(path, tokens.LARGEST + 1)
        with pytest.raises(ValueError, match="is larger than"):
            tokens.read(str(path))
