"""Files survive whatever ends the process, and no operator loses what he has changed."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.admin import AdminClient
from tests.support.client import get
from tests.support.processes import LBSERVICE, ROOT, Balancer, Server, eventually, free_port, lb_ini, run
from tests.support.shell import ask

pytestmark = pytest.mark.system

TOP = "# Nobody may lose this comment.\n[manhole]\nlisten = unix:run/manhole.sock\n"
ADMIN = "[admin]\nlisten = unix:run/admin.sock\n"
SERVERS = ("server s1 = 127.0.0.1:9 no-check weight=1   ; the first", "server s2 = 127.0.0.1:10 no-check")


DYING = """\
import os, signal, sys
from lbservice.atomic import replace_file

step, path = int(sys.argv[1]), sys.argv[2]
calls = 0

def counted(name):
    call = getattr(os, name)
    def do(*arguments, **keywords):
        global calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "write":  # half of it, and then the rest
            arguments = arguments[0], arguments[1][: (len(arguments[1]) + 1) // 2]
        return call(*arguments, **keywords)
    setattr(os, name, do)

for name in ("open", "write", "ftruncate", "fchmod", "fchown", "fsync", "rename", "unlink", "close", "stat", "fstat"):
    counted(name)
replace_file(path, b"the new text, which is longer\\n", backup=".bak")
print("done", calls)
"""


def test_killed_before_each_single_call_to_the_system(tmp_path: Path) -> None:
    """Old or new, whole, at every step; and the next one who writes is not hindered by what was left."""
    path, backup = tmp_path / "lb.ini", tmp_path / "lb.ini.bak"
    old, new = b"the old text\n", b"the new text, which is longer\n"
    seen = set()
    for step in range(1, 500):
        if not path.exists() or path.read_bytes() != old:
            path.write_bytes(old)
        backup.write_bytes(b"an older text\n")
        done = subprocess.run(
            [sys.executable, "-c", DYING, str(step), str(path)],
            cwd=ROOT,
            capture_output=True,
            timeout=20,
            check=False,
        )
        seen.add(path.read_bytes())
        assert path.read_bytes() in (old, new), step
        assert backup.read_bytes() in (b"an older text\n", old), step
        if path.read_bytes() == new:
            assert backup.read_bytes() == old, step
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    else:
        raise AssertionError("it never came to its end")
    assert step > 20
    assert seen == {old, new}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["lb.ini", "lb.ini.bak"]


SAVING = "for n in range(10**9):\n    lb.weight('app/s1', n % 200 + 1)\n    lb.save()\n"


def test_killed_while_it_saves_again_and_again(tmp_path: Path) -> None:
    text = lb_ini(free_port(), SERVERS, top=TOP)
    valid = re.escape(text).replace("weight=1", r"(?:weight=\d+ ?)?").replace(r"\ \ \ ;", r"\s*;")
    chance = random.Random(1)
    for _ in range(6):
        (tmp_path / "load_balancer.log").unlink(missing_ok=True)
        with (
            Balancer(tmp_path, text) as balancer,
            subprocess.Popen(
                [*LBSERVICE, "shell"],
                cwd=tmp_path,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as operator,
        ):
            assert operator.stdin is not None
            operator.stdin.write(SAVING.encode())
            operator.stdin.close()
            balancer.wait_for_log("lb.ini saved by")
            time.sleep(chance.random() / 20)  # any moment will do
            balancer.kill()
            operator.wait(10)
        for name in ("lb.ini", "lb.ini.bak"):
            assert re.fullmatch(valid, (tmp_path / name).read_text()), (tmp_path / name).read_text()
        code, output, error = run([*LBSERVICE, "check", "lb.ini"], tmp_path)
        assert (code, error) == (0, ""), output
    assert {each.name for each in tmp_path.iterdir()} <= {
        *("lb.ini", "lb.ini.bak", "lb.ini.new", "lb.ini.bak.new"),
        *("run", "load_balancer.log", "twistd.out"),
    }


def test_two_operators_at_once(tmp_path: Path) -> None:
    """One at the shell, one by the API; each changes other things of the same servers, and saves now and then.

    A third one edits the file.
    """

    def at_the_shell() -> None:
        for number in range(1, 101):
            ask(tmp_path, f"lb.weight('app/s1', {number})\nlb.add('app', 'a{number}', '127.0.0.1:9')\n")
            if number % 20 == 0:
                ask(tmp_path, "lb.save()\n")

    def by_the_api() -> None:
        api = AdminClient(tmp_path / "run" / "admin.sock")
        for number in range(1, 101):
            assert api.ask("POST", "/v1/servers/app/s1/maxconn", {"maxconn": number}).status == 200
            assert api.ask("POST", "/v1/servers/app", {"name": f"b{number}", "address": "127.0.0.1:9"}).status == 201
            if number % 20 == 0:
                assert api.ask("POST", "/v1/save", {}).status == 200

    with Balancer(tmp_path, lb_ini(free_port(), SERVERS, top=ADMIN + TOP, backend="check = none")) as balancer:
        with ThreadPoolExecutor(2) as operators:
            for done in [operators.submit(at_the_shell), operators.submit(by_the_api)]:
                done.result(40)
        config = tmp_path / "lb.ini"
        config.write_text(config.read_text().replace("127.0.0.1:10 no-check", "127.0.0.1:10 no-check weight=7"))
        with pytest.raises(AssertionError, match="was changed since it was read"):
            ask(tmp_path, "lb.drain('app/a1')\nlb.save()\n")
        ask(tmp_path, "lb.reload()\nlb.save()\n")
        assert "nothing differs" in ask(tmp_path, "lb.diff()\n")
        text = config.read_text()
        assert "server s1 = 127.0.0.1:9 no-check weight=100 maxconn=100   ; the first\n" in text
        assert "server s2 = 127.0.0.1:10 no-check weight=7\n" in text
        assert "server a1 = 127.0.0.1:9 state=drain\n" in text
        assert "# Nobody may lose this comment.\n" in text
        added = re.findall(r"^server ([ab]\d+) = ", text, re.MULTILINE)
        assert sorted(added) == sorted(f"{name}{number}" for name in "ab" for number in range(1, 101))
        numbers = [int(number) for number in re.findall(r", change (\d+)", balancer.log())]
        assert numbers == list(range(1, len(numbers) + 1))
        assert re.search(r"change \d+.*\n.*change \d+", balancer.log())


def test_two_operators_who_look_first(tmp_path: Path) -> None:
    """Each adds one to what he sees. With If-Match nobody writes over what the other one did meanwhile."""
    refused: list[int] = []

    def operate() -> None:
        api = AdminClient(tmp_path / "run" / "admin.sock")
        done = 0
        while done < 50:
            seen = api.ask("GET", "/v1/servers/app/s1")
            wanted = {"weight": seen.json["weight"] + 1}
            answer = api.ask("POST", "/v1/servers/app/s1/weight", wanted, {"If-Match": seen.fields["etag"]})
            if answer.status == 200:
                done += 1
            else:
                refused.append(answer.status)

    with Balancer(tmp_path, lb_ini(free_port(), SERVERS, top=ADMIN + TOP)):
        with ThreadPoolExecutor(2) as operators:
            for each in [operators.submit(operate), operators.submit(operate)]:
                each.result(40)
        assert set(refused) <= {412}
        seen = AdminClient(tmp_path / "run" / "admin.sock").ask("GET", "/v1/servers/app/s1")
        assert seen.json["weight"] == 1 + 2 * 50


STATE = "[loadbalancer]\nstate-file = run/state.json\n"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_state_file_survives_any_end(tmp_path: Path, end: signal.Signals) -> None:
    port = free_port()
    with Server("s1") as first, Server("s2") as second, Server("s3") as third:
        text = lb_ini(port, (first, second), top=STATE + TOP)
        with Balancer(tmp_path, text) as balancer:
            ask(
                tmp_path,
                f"lb.add('app', 's3', '{third.address}', weight=5)\nlb.remove('app/s1')\nlb.drain('app/s2')\n",
            )
            assert {get(port).body for _ in range(5)} == {b"s3\n"}
            state = tmp_path / "run" / "state.json"
            drained = f'"s2": "{second.address} state=drain"'
            eventually(lambda: state.exists() and drained in state.read_text(), 5, "the state")
            balancer.signal(end)
            assert balancer.wait() == (0 if end is signal.SIGTERM else -end)
        with Balancer(tmp_path, text) as balancer:
            assert {get(port).body for _ in range(5)} == {b"s3\n"}
            table = ask(tmp_path, "lb.servers()\nlb.stats()\n")
            assert "app/s1" not in table
            assert re.search(r"app/s2 .* DRAIN ", table)
            counted = re.search(r"web +http .* (\d+) +(\d+) +0 +0\n", table)
            assert counted is not None
            # Without a stop up to a minute of counting is lost, never a change.
            assert 10 >= int(counted[1]) == int(counted[2]) >= (10 if end is signal.SIGTERM else 5)
            ask(tmp_path, "lb.save()\n")
        assert f"server s3 = {third.address} weight=5\n" in balancer.config_path.read_text()


def test_a_state_file_that_is_no_use_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(0o700)
    (tmp_path / "run" / "state.json").write_text("{")
    with Balancer(tmp_path, lb_ini(free_port(), SERVERS, top=STATE + TOP)) as balancer:
        balancer.wait_for_log("state file run/state.json is broken: .* it is kept as run/state.json.aside")
        balancer.wait_for_log("frontend web listens")
        eventually(lambda: (tmp_path / "run" / "state.json").exists(), 5, "a new one")
        os.stat(tmp_path / "run" / "state.json.aside")


def test_the_log_is_reopened_by_an_operator(tmp_path: Path) -> None:
    with Balancer(tmp_path, lb_ini(free_port(), SERVERS, top=TOP)) as balancer:
        balancer.log_path.rename(tmp_path / "old.log")
        assert "load_balancer.log: reopened" in ask(tmp_path, "lb.reopen()\n")
        balancer.wait_for_log("log reopened")
