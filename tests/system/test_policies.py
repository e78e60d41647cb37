"""Policies that look at requests, sticky cookies, and a policy of one's own, in a real process."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.debian import need
from tests.support.processes import Balancer, Server, free_port, lb_ini, run

pytestmark = pytest.mark.system

Servers = tuple[Server, ...]

MINE = """\
from lbservice.testing import Policy


class Last(Policy):
    wants = ("header", "x-mood")

    def pick(self, candidates, info):
        if info.key == b"bad":
            raise RuntimeError("not today")
        return candidates[-1]
"""


def curled(tmp_path: Path, *arguments: str) -> list[str]:
    """Who served these requests."""
    code, output, _ = run([need("curl"), "-sS", *arguments], tmp_path)
    assert code == 0
    return output.split()


@pytest.mark.parametrize("balance", ["uri", "maglev uri", "header(X-User)", "cookie(sid)", "param(id)"])
def test_a_hash_stays_across_a_restart(tmp_path: Path, servers: Servers, balance: str) -> None:
    port = free_port()
    seen = []
    for _ in range(2):
        with Balancer(tmp_path, lb_ini(port, servers, backend=f"balance = {balance}")):
            seen.append(
                [
                    curled(tmp_path, "-H", f"X-User: u{n}", "-b", f"sid={n}", f"http://127.0.0.1:{port}/{n}?id={n}")
                    for n in range(12)
                ]
            )
    assert seen[0] == seen[1]
    assert {name for (name,) in seen[0]} == {"s1", "s2", "s3"}


def test_curl_stays_with_its_server_by_a_cookie_also_across_a_restart(tmp_path: Path, servers: Servers) -> None:
    port = free_port()
    (tmp_path / "sticky.key").write_text("a secret that nobody knows\n")
    (tmp_path / "sticky.key").chmod(0o600)
    config = lb_ini(port, servers, backend="sticky = cookie SRV httponly\nsticky-key = sticky.key")
    jar = ["-b", "jar", "-c", "jar"]
    with Balancer(tmp_path, config):
        assert Counter(curled(tmp_path, f"http://127.0.0.1:{port}/[1-9]")) == {"s1": 3, "s2": 3, "s3": 3}
        names = curled(tmp_path, *jar, f"http://127.0.0.1:{port}/[1-10]")
    assert re.search(r"#HttpOnly_127\.0\.0\.1\tFALSE\t/\tFALSE\t0\tSRV\t[0-9a-f]{32}\n", (tmp_path / "jar").read_text())
    with Balancer(tmp_path, config):
        curled(tmp_path, f"http://127.0.0.1:{port}/")
        names += curled(tmp_path, *jar, f"http://127.0.0.1:{port}/[1-10]")
    assert len(set(names)) == 1
    assert len(names) == 20


def test_a_policy_beside_lb_ini_works_and_may_fail(tmp_path: Path, servers: Servers) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    port = free_port()
    url = f"http://127.0.0.1:{port}/[1-12]"
    with Balancer(tmp_path, lb_ini(port, servers, backend="balance = mine:Last")) as balancer:
        assert Counter(curled(tmp_path, url)) == {"s3": 12}
        assert Counter(curled(tmp_path, "-H", "X-Mood: bad", url)) == {"s1": 4, "s2": 4, "s3": 4}
        assert Counter(curled(tmp_path, url)) == {"s1": 4, "s2": 4, "s3": 4}
        log = balancer.log()
    assert (
        "backend app: the policy mine:Last fails: RuntimeError: not today (mine.py:9); the request is placed by" in log
    )
    given_up = (
        r"has failed too often, the last time with RuntimeError: not today \(mine\.py:9\); roundrobin takes its place"
    )
    assert len(re.findall(given_up + " until the configuration is loaded again", log)) == 1
    assert log.count("not today") == 2, "once a second, and when it is given up"


def test_one_that_cannot_work_is_a_mistake_in_the_file(tmp_path: Path, servers: Servers) -> None:
    (tmp_path / "mine.py").write_text(MINE.replace("candidates[-1]", "None"))
    port = free_port()
    with pytest.raises(AssertionError, match="in a trial, pick returned None, which is none of the candidates"):
        Balancer(tmp_path, lb_ini(port, servers, backend="balance = mine:Last")).start()


def test_a_server_that_refuses_does_not_attract_requests(tmp_path: Path, servers: Servers) -> None:
    """leastconn, before the checks notice."""
    port, dead = free_port(), free_port()
    lines = [f"server dead = 127.0.0.1:{dead} no-check", *(server.line for server in servers)]
    with Balancer(tmp_path, lb_ini(port, lines, backend="balance = leastconn")) as balancer:
        assert len(curled(tmp_path, f"http://127.0.0.1:{port}/[1-200]")) == 200
        lines = balancer.wait_for_access(200, 10)
    retried = sum("+" in line.split(" - - ---- ")[1].split()[0] for line in lines)
    assert 1 <= retried <= 3, "as many as an error is remembered, not each fourth"
