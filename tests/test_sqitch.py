"""The schema by plain `sqitch`, on every PostgreSQL that is here."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.embedded import Embedded
from service.locks import LockFile
from service.postgres import Cluster, account, private_dir, programs
from tests.support.postgres import CloneDsns, execute, fetch, reachable_dir
from tests.support.server import environment

PROJECT = Path(__file__).parent.parent / "sqitch"
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(None, id="18"),
        pytest.param(
            DEBIAN_15,
            id="15",
            marks=pytest.mark.skipif(
                not (DEBIAN_15 / "initdb").exists(), reason="the server of PostgreSQL 15 is not installed"
            ),
        ),
    ],
)
def running(request: pytest.FixtureRequest) -> Iterator[Embedded]:
    """A cluster with the logins and an empty database, as an administrator would prepare it."""
    with reachable_dir() as place, LockFile(place / "lock") as lock:
        runner = account()
        cluster = Cluster(private_dir(place / "postgres", runner), runner, request.param or programs(runner))
        embedded = Embedded(place, cluster, lock)
        embedded.start(0)
        try:
            yield embedded
        finally:
            embedded.stop()


def sqitch(running: Embedded, *arguments: str) -> str:
    done = subprocess.run(
        ["sqitch", *arguments],
        cwd=PROJECT,
        env=environment() | running.environment() | {"SQITCH_FULLNAME": "Tests", "SQITCH_EMAIL": "tests@example.org"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dump(running: Embedded) -> str:
    """Everything in the database but sqitch's own registry, and the roles of the cluster."""
    done = subprocess.run(
        [running._cluster.programs / "pg_dump", "--schema-only", "--exclude-schema=sqitch"],
        env=environment() | running.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    # A random token that newer releases put around the dump.
    schema = re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.MULTILINE)
    roles = fetch(running.administrator_dsn, "SELECT rolname FROM pg_roles ORDER BY 1")
    return schema + "\n".join(row[0] for row in roles)


def changes() -> list[str]:
    plan = (PROJECT / "sqitch.plan").read_text().splitlines()
    return [line.split()[0] for line in plan if line and line[0] not in "%@#"]


def test_deploy_verify_revert_to_nothing_and_deploy_again(running: Embedded) -> None:
    before = dump(running)
    sqitch(running, "deploy", "--verify", "--target", "embedded")
    deployed = dump(running)
    assert "CREATE TABLE hopcount.urls" in deployed
    assert "hopcount_owner" in deployed
    assert "Verify successful" in sqitch(running, "verify", "--target", "embedded")
    assert "Nothing to deploy" in sqitch(running, "deploy", "--target", "embedded")
    sqitch(running, "revert", "-y", "--target", "embedded")
    assert dump(running) == before
    sqitch(running, "deploy", "--verify", "--target", "production")
    assert dump(running) == deployed
    sqitch(running, "revert", "-y", "--target", "embedded")


def test_every_change_alone_can_be_reverted_and_deployed_again(running: Embedded) -> None:
    sqitch(running, "deploy", "--target", "embedded")
    deployed = dump(running)
    for change in changes()[1:]:
        sqitch(
            running,
            "revert",
            "-y",
            "--target",
            "embedded",
            "--to",
            f"{change}^",
        )
        sqitch(running, "deploy", "--verify", "--target", "embedded")
        assert dump(running) == deployed, change
    sqitch(running, "revert", "-y", "--target", "embedded")


def test_a_deployer_that_does_not_inherit_what_its_roles_may(running: Embedded) -> None:
    superuser = running.dsn("postgres")
    execute(superuser, "ALTER ROLE hopcount_admin NOINHERIT")
    try:
        before = dump(running)
        sqitch(running, "deploy", "--verify", "--target", "embedded")
        sqitch(running, "revert", "-y", "--target", "embedded")
        assert dump(running) == before
    finally:
        execute(superuser, "ALTER ROLE hopcount_admin INHERIT")


def test_every_change_has_its_three_scripts_and_the_release_a_tag() -> None:
    for kind in ("deploy", "revert", "verify"):
        assert {path.stem for path in (PROJECT / kind).glob("*.sql")} == set(changes())
    plan = (PROJECT / "sqitch.plan").read_text()
    assert "\n@v0.1.0 " in plan


ALLOWED = [
    "SELECT * FROM hopcount.urls",
    "INSERT INTO hopcount.urls (id, short_code, original_url) VALUES (gen_random_uuid(), 'b', 'https://example.org/')",
    "UPDATE hopcount.urls SET original_url = 'https://example.org/2', updated_at = now()",
    "UPDATE hopcount.urls SET click_count = click_count + 1",
    "DELETE FROM hopcount.urls",
    "INSERT INTO hopcount.clicks (id, short_code) VALUES (gen_random_uuid(), 'b')",
    "SELECT hopcount.clicked_at(c) FROM hopcount.clicks c",
    "DELETE FROM hopcount.clicks",
    "SELECT * FROM hopcount.api_keys",
]

FORBIDDEN = [
    "UPDATE hopcount.urls SET short_code = 'c'",
    "UPDATE hopcount.urls SET id = gen_random_uuid()",
    "UPDATE hopcount.urls SET created_at = now()",
    "UPDATE hopcount.clicks SET short_code = 'c'",
    "TRUNCATE hopcount.urls",
    "TRUNCATE hopcount.clicks",
    "INSERT INTO hopcount.api_keys (id, name, key_hash, scope) "
    "VALUES (gen_random_uuid(), 'x', decode(repeat('00', 32), 'hex'), 'write')",
    "UPDATE hopcount.api_keys SET scope = 'write'",
    "DELETE FROM hopcount.api_keys",
    "CREATE TABLE hopcount.more (id int)",
    "CREATE TABLE public.more (id int)",
    "CREATE SCHEMA more",
    "CREATE INDEX ON hopcount.urls (original_url)",
    "ALTER TABLE hopcount.urls ADD COLUMN more int",
    "DROP TABLE hopcount.clicks",
    "SELECT * FROM sqitch.changes",
    "SET ROLE hopcount_owner",
    "CREATE ROLE more",
    "SELECT * FROM hopcount.clicks_default",
]


@pytest.mark.parametrize("statement", ALLOWED)
def test_the_service_may(dsns: CloneDsns, statement: str) -> None:
    execute(dsns.direct, statement)


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_service_may_not(dsns: CloneDsns, statement: str) -> None:
    with pytest.raises(Exception, match=r"permission denied|must be owner"):
        execute(dsns.direct, statement)
