"""What is sent, and who sends it: wrk on one core, or a loop of our own where there is no wrk.

wrk's scripts build their requests before the measurement, for building one per request would make wrk the slower
side: with up to PREBUILT_MAX keys a table of whole requests, else a join of ready pieces.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.bench.openloop import closed_loop
from cluster.bench.pins import Cores
from cluster.local.errors import LocalError
from cluster.local.programs import which
from cluster.subprocesses import communicate

CONNECTIONS = 128
PREBUILT_MAX = 1000  # requests held ready
KEY, ID = "{key}", "{id}"
KEY_FORMAT, ID_FORMAT = "k{:07d}", "{:010d}"  # of one length, so that Content-Length is known before
OVERTIME_S = 30.0


class LoadFailed(LocalError):
    """A measurement that must not become a figure: errors, or a count that does not fit."""


@dataclass(frozen=True)
class Load:
    """One kind of request. KEY becomes one of `keys` keys, each ID a text never used before; `weight` increments."""

    method: str
    path: str
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    keys: int = 1
    weight: int = 1
    connections: int = CONNECTIONS

    def template(self, host: str) -> str:
        """The whole request, with its KEY and ID still in it."""
        headers = {"Host": host, **self.headers}
        if self.body:
            filled = self.body.replace(KEY, KEY_FORMAT.format(0)).replace(ID, "0" * ID_CHARS)
            headers["Content-Length"] = str(len(filled.encode()))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", self.body])

    def key_names(self) -> list[str]:
        return [KEY_FORMAT.format(number) for number in range(self.keys)]

    def requests(self, host: str) -> Iterator[bytes]:
        """For our own loop: without end."""
        prefix, count, template = secrets.token_hex(4), 0, self.template(host)
        while True:
            for key in range(self.keys):
                text = template.replace(KEY, KEY_FORMAT.format(key))
                while ID in text:
                    text = text.replace(ID, prefix + ID_FORMAT.format(count), 1)
                    count += 1
                yield text.encode()


ID_CHARS = 8 + len(ID_FORMAT.format(0))


@dataclass(frozen=True)
class Sample:
    """What one measurement gave. `completed` requests were answered; `figure` is in the unit of its row."""

    completed: int
    seconds: float
    figure: float
    p99_ms: float = 0.0
    failed: int = 0  # requests of a peer that may fail some; they are in no figure


async def drive(load: Load, url: str, seconds: float, cores: Cores, folder: Path, may_fail: bool = False) -> Sample:
    """One measurement from the load's core. LoadFailed when any answer was not 2xx, or a connection failed; with
    `may_fail`, when nothing was answered 2xx.
    """
    wrk = which("wrk")
    if wrk is None:
        return await _drive_alone(load, url, seconds, may_fail)
    script = folder / "load.lua"
    script.write_text(wrk_script(load, url.removeprefix("http://")))
    command = [str(wrk), "-t1", f"-c{load.connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
    with cores.on("load"):
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await communicate(process, seconds + OVERTIME_S)
    return parse_wrk(said.decode(), load.weight, may_fail)


async def _drive_alone(load: Load, url: str, seconds: float, may_fail: bool) -> Sample:
    host, _, port = url.removeprefix("http://").partition(":")
    done = await closed_loop(host, int(port), load.requests(f"{host}:{port}"), load.connections, seconds)
    if done.failures and not (may_fail and done.latencies_s):
        raise LoadFailed(f"{len(done.failures)} requests failed, as {done.failures[0]}: look into the server's log.")
    completed = len(done.latencies_s)
    return Sample(
        completed, done.seconds, completed * load.weight / done.seconds, done.percentile_ms(99), len(done.failures)
    )


def wrk_script(load: Load, host: str) -> str:
    """The Lua that wrk runs. One key and no id is a static request, which wrk sends without calling Lua."""
    if load.keys == 1 and ID not in load.template(host):
        return _STATIC % _lua_fields(load) + _DONE
    pieces = re.split(f"({re.escape(KEY)}|{re.escape(ID)})", load.template(host))
    shown = {KEY: "KEY", ID: "ID"}
    listed = ",".join(shown.get(piece, _lua(piece)) for piece in pieces if piece)
    many = load.keys <= PREBUILT_MAX and ID not in pieces
    return _HEAD % (secrets.token_hex(4), load.keys, listed) + (_PREBUILT if many else _JOINED) + _DONE


def _lua_fields(load: Load) -> str:
    key = KEY_FORMAT.format(0)
    lines = [f"wrk.method={_lua(load.method)}", f"wrk.path={_lua(load.path.replace(KEY, key))}"]
    lines += [f"wrk.headers[{_lua(name)}]={_lua(value)}" for name, value in load.headers.items()]
    return "\n".join(lines + ([f"wrk.body={_lua(load.body.replace(KEY, key))}"] if load.body else []))


def _lua(text: str) -> str:
    return json.dumps(text)  # the same escapes, for the ASCII that is sent


_STATIC = "%s\n"
_HEAD = """
local KEY, ID, prefix, keys, count = {}, {}, "%s", %d, 0
local pieces = {%s}
local function whole(n)
  local parts = {}
  for i, piece in ipairs(pieces) do
    if piece == KEY then parts[i] = string.format("k%%07d", n)
    elseif piece == ID then parts[i] = prefix .. string.format("%%010d", count); count = count + 1
    else parts[i] = piece end
  end
  return table.concat(parts)
end
local n, ready = -1, {}
"""
_PREBUILT = """
init = function() for i = 0, keys - 1 do ready[i] = whole(i) end end
request = function() n = (n + 1) % keys; return ready[n] end
"""
_JOINED = """
local heads, tails = {}, {}
init = function()
  if #pieces > 5 or keys > 1000 then return end
  for i = 0, keys - 1 do
    local text, before = whole(i), count
    local at = text:find(prefix, 1, true)
    heads[i], tails[i] = text:sub(1, at + #prefix - 1), text:sub(at + #prefix + 10)
  end
end
request = function()
  n = (n + 1) % keys
  local head = heads[n]
  if not head then return whole(keys > 1000 and math.random(0, keys - 1) or n) end
  count = count + 1
  return head .. (1000000000 + count) .. tails[n]
end
"""
_DONE = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nTALLY {"completed":%d,"us":%d,"p99_us":%d,"failed":{"connect":%d,"read":%d,"write":%d,'
    .. '"status":%d,"timeout":%d}}\\n', summary.requests, summary.duration, latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""


def parse_wrk(said: str, weight: int = 1, may_fail: bool = False) -> Sample:
    """The line that `done` writes. LoadFailed when there is none, or it tells of errors and none `may_fail`."""
    found = re.search(r"^TALLY (.*)$", said, re.MULTILINE)
    if found is None:
        raise LoadFailed(f"wrk told no result: {said.strip()[-200:]!r}. Try it again with more --seconds.")
    told = json.loads(found.group(1))
    failed = {name: times for name, times in told["failed"].items() if times}
    answered = told["completed"] - failed.get("status", 0)
    if answered <= 0 or (failed and not may_fail):
        raise LoadFailed(f"{failed or 'no answer'} of {told['completed']} requests: look into the server's log.")
    seconds = told["us"] / 1e6
    return Sample(answered, seconds, answered * weight / seconds, told["p99_us"] / 1000, sum(failed.values()))
