"""The files of `deploy/` for Prometheus, Grafana and systemd: valid, and true to what the service exports."""

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml

from service.settings import Settings, read
from service.store import errors

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
SYSTEMD = ROOT / "deploy" / "systemd"

MOST_EXPOSED = 15
"""In tenths, as `systemd-analyze security` takes it."""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (in Debian's package prometheus) is not installed"
)


def systemd() -> int:
    """The version that is installed, or 0."""
    if shutil.which("systemd-analyze") is None:
        return 0
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[1])


# The first with the %d of the units, and with a look at a unit that is not installed.
needs_systemd = pytest.mark.skipif(systemd() < 250, reason="systemd-analyze of systemd 250 or later is not installed")


def succeeds(*command: object) -> str:
    """What it printed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    return printed


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def alerts(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for rule in rules if "alert" in rule]


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((GRAFANA / "dashboards" / "hopcount.json").read_text()))


def targets(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        assert panel["targets"], panel["title"]
        yield from panel["targets"]


async def exported() -> set[str]:
    """The names of the samples that /metrics has, or will have once there is something to count."""
    # Not at the top: it makes Litestar warn of what 3.0 will change, and in tests warnings are errors.
    from service.app import create_app

    transport = httpx.ASGITransport(app=cast("Any", create_app(Settings(), "postgresql://nowhere.invalid/none")))
    async with httpx.AsyncClient(transport=transport, base_url="http://hopcount.example") as client:
        shown = (await client.get("/metrics")).text
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", shown, re.MULTILINE))
    suffixes = ("_bucket", "_count", "_sum")
    return {name + suffix for name, kind in kinds.items() for suffix in (suffixes if kind == "histogram" else ("",))}


def names(expression: str) -> set[str]:
    """The metrics and the recorded rules in `expression`."""
    return set(re.findall(r"[\w:]*\bhopcount_[\w:]+|\bup\b|\bALERTS\b", expression))


@needs_promtool
@pytest.mark.parametrize(
    ("what", "file"),
    [("check config", "prometheus.yml"), ("check rules", "rules.yml"), ("test rules", "rules_test.yml")],
)
def test_promtool_accepts(what: str, file: str) -> None:
    succeeds("promtool", *what.split(), PROMETHEUS / file)


def test_every_alert_is_tested(alerts: list[dict[str, Any]]) -> None:
    tests = (PROMETHEUS / "rules_test.yml").read_text()
    assert {alert["alert"] for alert in alerts} == set(re.findall(r'alertname="(\w+)"', tests))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_rules_and_dashboard_ask_for_what_is_exported(
    rules: list[dict[str, Any]], dashboard: dict[str, Any]
) -> None:
    of_prometheus = {"up", "ALERTS"}
    known = await exported() | of_prometheus | {rule["record"] for rule in rules if "record" in rule}
    for expression in [rule["expr"] for rule in rules] + [target["expr"] for target in targets(dashboard)]:
        assert names(expression), expression
        assert names(expression) <= known, expression


def test_the_reasons_in_rules_are_errors_of_the_store(rules: list[dict[str, Any]]) -> None:
    named = {
        reason
        for rule in rules
        for value in re.findall(r'reason!?[=~]+"(.+?)"', rule["expr"])
        for reason in value.split("|")
    }
    assert named
    assert named <= {error.__name__ for error in errors.StoreError.__subclasses__()}


def test_every_alert_says_how_urgent_it_is_and_where_to_read_on(alerts: list[dict[str, Any]]) -> None:
    for alert in alerts:
        assert alert["alert"].startswith("Hopcount")
        assert alert["labels"]["severity"] in {"page", "ticket"}, alert["alert"]
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"].endswith(f" docs/operations.md#{alert['alert'].lower()}")


def test_every_alert_is_explained(alerts: list[dict[str, Any]]) -> None:
    document = (ROOT / "docs" / "operations.md").read_text()
    assert sorted(re.findall(r"^### (Hopcount\w+)$", document, re.MULTILINE)) == sorted(
        alert["alert"] for alert in alerts
    )


def test_the_dashboard_is_sound(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: Counter[tuple[int, int]] = Counter()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
    assert max(taken.values()) == 1


def test_the_dashboard_asks_the_data_source_that_is_provided(dashboard: dict[str, Any]) -> None:
    provided = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())
    assert [source["uid"] for source in provided["datasources"]] == ["prometheus"]
    for asking in [*dashboard["panels"], *targets(dashboard)]:
        assert asking["datasource"] == {"type": "prometheus", "uid": "prometheus"}
    assert all(target["expr"] for target in targets(dashboard))


@pytest.mark.parametrize("part", ["requirements.lock", "build.lock"])
def test_the_image_has_the_versions_that_are_tested(part: str) -> None:
    def pins(path: Path) -> set[str]:
        return set(re.findall(r"^(\S+==\S+)", path.read_text(), re.MULTILINE))

    pinned = pins(ROOT / "deploy" / part)
    assert pinned
    assert pinned <= pins(ROOT / "requirements.lock")


@needs_systemd
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    units = [unit for unit in SYSTEMD.iterdir() if unit.suffix in {".service", ".timer"}]
    assert len(units) == 3
    for unit in units:
        # It looks for the program, which need not be installed here.
        text = unit.read_text().replace("/opt/hopcount/bin/hopcount", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    printed = succeeds("systemd-analyze", "verify", *tmp_path.iterdir())
    # A line that it cannot read is no failure for it; and it may have something to say of other units.
    assert str(tmp_path) not in printed, printed


@needs_systemd
@pytest.mark.parametrize("unit", ["hopcount.service", "hopcount-maintenance.service"])
def test_a_unit_may_do_little(unit: str) -> None:
    succeeds("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", SYSTEMD / unit)


def test_the_example_sets_what_can_be_set() -> None:
    lines = (SYSTEMD / "hopcount.env").read_text().splitlines()
    given = dict(line.removeprefix("#").split("=", 1) for line in lines if "=" in line)
    assert given
    read(given)  # it names what is no setting, and what is no value of it
