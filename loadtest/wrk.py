"""wrk (https://github.com/wg/wrk) as the generator for capacity, where it is installed."""

import itertools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec

from loadtest.generator import Load
from loadtest.keys import drawn

_PATHS = 200_000
"""Requests that are drawn ahead; wrk goes round them."""

_SCRIPT = """
local requests = {{}}
for path in io.lines("{paths}") do requests[#requests + 1] = wrk.format("GET", path) end
local at = 0
local loaded = os.clock()
function request()
    at = at % #requests + 1
    return requests[at]
end
function done(summary, latency, _)
    local e = summary.errors
    io.write(string.format("result %d %d %d %d %d %d", summary.requests, e.status,
        e.connect + e.read + e.write, e.timeout, summary.duration, (os.clock() - loaded) * 1e6))
    for _, p in ipairs({{50, 90, 99, 99.9}}) do io.write(string.format(" %d", latency:percentile(p))) end
    io.write("\\n")
end
"""


class Capacity(msgspec.Struct, frozen=True):
    """What wrk measured."""

    requests: int
    """Answered."""
    refused: int
    """Of these, answers above 399."""
    broken: int
    """Connections that failed or timed out."""
    seconds: float
    percentiles: dict[str, int]
    """Latency in microseconds, of a closed loop."""
    cpu_seconds: float
    """Of wrk since it had read its paths, which takes as long as many thousand requests."""


def available() -> str | None:
    """The version of wrk. None where it is not installed."""
    if shutil.which("wrk") is None:
        return None
    said = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).split("Copyright")[0].strip() or "wrk"


def run(load: Load) -> Capacity:
    """Send `load`, in a closed loop on one thread, without its warm-up."""
    with tempfile.TemporaryDirectory(prefix="hopcount-wrk-") as place:
        paths, script = Path(place) / "paths", Path(place) / "script.lua"
        paths.write_text("".join(f"/{code}\n" for code in itertools.islice(drawn(load.keys, load.seed), _PATHS)))
        script.write_text(_SCRIPT.format(paths=paths))
        said = subprocess.run(
            ["wrk", "--threads", "1", "--connections", str(load.connections),
             "--duration", f"{max(1, round(load.seconds))}s", "--timeout", "10s", "--script", script, f"http://127.0.0.1:{load.port}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    found = re.search(r"^result (.*)$", said.stdout, re.MULTILINE)
    assert found is not None, said.stdout  # our own script writes it
    requests, refused, broken, timeouts, microseconds, cpu, *percentiles = map(int, found[1].split())
    return Capacity(
        requests,
        refused,
        broken + timeouts,
        microseconds / 1e6,
        dict(zip(("50", "90", "99", "99.9"), percentiles, strict=True)),
        cpu / 1e6,
    )
