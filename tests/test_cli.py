"""The `hopcount` command, run as its users run it."""

import csv
import os
import pty
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.store import partitions
from tests.support.postgres import CloneDsns, execute, fetch
from tests.support.server import HOPCOUNT, environment, hopcount


def run(
    dsns: CloneDsns, *arguments: str, stdin: str | bytes = "", cwd: Path | None = None, **more: object
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    settings = {"database_url": dsns.service, "admin_database_url": dsns.administrator} | more
    done = hopcount(*arguments, stdin=stdin, cwd=cwd, settings=settings)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def stored(dsns: CloneDsns) -> dict[str, str]:
    return {row[0]: row[1] for row in fetch(dsns.superuser, "SELECT short_code, original_url FROM hopcount.urls")}


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_importing_csv_is_repeatable(dsns: CloneDsns, tmp_path: Path) -> None:
    (tmp_path / "links.csv").write_text(
        'original_url,short_code\nhttps://example.org/1,one\n"https://example.org/a,b",two\n\nhttps://example.org/3,three\n'
    )
    first = run(dsns, "urls", "import", "links.csv", cwd=tmp_path)
    assert first == (0, "3 created, 0 there already, 0 rejected\n", "")
    expected = {
        "one": "https://example.org/1",
        "two": "https://example.org/a,b",
        "three": "https://example.org/3",
    }
    assert stored(dsns) == expected
    again = run(dsns, "urls", "import", "links.csv", cwd=tmp_path)
    assert again == (0, "0 created, 3 there already, 0 rejected\n", "")
    assert stored(dsns) == expected
    assert not (tmp_path / "links.csv.rejects.csv").exists()


def test_importing_one_url_a_line_makes_codes(dsns: CloneDsns, tmp_path: Path) -> None:
    urls = "".join(f"https://example.org/{n}\n" for n in range(2500))
    status, output, _ = run(dsns, "urls", "import", "-", "--created", "made.csv", stdin=urls, cwd=tmp_path)
    assert (status, output) == (0, "2,500 created, 0 there already, 0 rejected\n")
    header, *made = read(tmp_path / "made.csv")
    assert header == ["original_url", "short_code"]
    assert {code: url for url, code in made} == stored(dsns)
    assert {url for url, _ in made} == set(urls.split())


def test_a_bad_line_is_told_and_stops_no_other(dsns: CloneDsns, tmp_path: Path) -> None:
    execute(
        dsns.superuser,
        "INSERT INTO hopcount.urls (id, short_code, original_url) "
        "VALUES (gen_random_uuid(), 'taken', 'https://example.org/')",
    )
    lines = [
        b"\xef\xbb\xbforiginal_url,short_code",
        b"https://example.org/good,good",
        b"javascript:alert(1),bad1",
        b"https://example.org/,b d",
        b"https://example.org/other,taken",
        b"https://example.org/\xff,bad2",
        b'"https://example.org/open,bad3',
        b"https://example.org/,bad4,more",
        b"https://example.org/" + b"a" * 70000 + b",bad5",
        b"http://127.0.0.1:8000/loop,bad6",
        b"https://example.org/last,last\r",
        b"https://example.org/no-code,",
    ]
    status, output, _ = run(dsns, "urls", "import", "-", stdin=b"\n".join(lines), cwd=tmp_path)
    assert (status, output) == (1, "3 created, 0 there already, 8 rejected (see stdin.rejects.csv)\n")
    assert set(stored(dsns).values()) == {
        "https://example.org/",
        "https://example.org/good",
        "https://example.org/last",
        "https://example.org/no-code",
    }
    header, *rejects = read(tmp_path / "stdin.rejects.csv")
    assert header == ["line", "reason", "text"]
    reasons = {int(number): reason for number, reason, _ in rejects}
    assert sorted(reasons) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert "http and https" in reasons[3]
    assert "1 to 32 characters" in reasons[4]
    assert "taken" in reasons[5]
    assert "UTF-8" in reasons[6]
    assert "fields" in reasons[8]
    assert "longer than" in reasons[9]
    assert "back to this service" in reasons[10]
    assert rejects[0][2] == "javascript:alert(1),bad1"


def test_a_header_that_is_none_imports_nothing(dsns: CloneDsns, tmp_path: Path) -> None:
    status, _, error = run(
        dsns, "urls", "import", "-", stdin="code,original_url\nx,https://example.org/\n", cwd=tmp_path
    )
    assert status == 1
    assert error == "Error: the header is 'code,original_url', where original_url,short_code is expected.\n"
    assert stored(dsns) == {}


@pytest.mark.parametrize("text", ["", "original_url\n", "\n\n"])
def test_importing_nothing(dsns: CloneDsns, tmp_path: Path, text: str) -> None:
    assert run(dsns, "urls", "import", "-", stdin=text, cwd=tmp_path)[:2] == (
        0,
        "0 created, 0 there already, 0 rejected\n",
    )


def test_what_is_exported_can_be_imported(dsns: CloneDsns, tmp_path: Path) -> None:
    run(
        dsns,
        "urls",
        "import",
        "-",
        stdin='original_url,short_code\n"https://example.org/a,""b",one\n',
        cwd=tmp_path,
    )
    before = stored(dsns)
    status, exported, _ = run(dsns, "urls", "export")
    assert status == 0
    assert run(dsns, "urls", "export", "out.csv", cwd=tmp_path)[0] == 0
    assert (tmp_path / "out.csv").read_text() == exported
    execute(dsns.superuser, "TRUNCATE hopcount.urls")
    assert run(dsns, "urls", "import", "out.csv", cwd=tmp_path)[0] == 0
    assert stored(dsns) == before


def test_stats(dsns: CloneDsns, tmp_path: Path) -> None:
    run(dsns, "urls", "import", "-", stdin="original_url,short_code\nhttps://example.org/,one\n", cwd=tmp_path)
    execute(dsns.superuser, "UPDATE hopcount.urls SET click_count = 1234")
    status, output, _ = run(dsns, "urls", "stats")
    first, second = output.splitlines()
    assert (status, first) == (0, "1 links, 1,234 clicks")
    assert second.split() == ["1,234", "one", "https://example.org/"]


def test_keys(dsns: CloneDsns) -> None:
    status, token, _ = run(dsns, "keys", "create", "reporting", "--scope", "read")
    assert status == 0
    assert token.startswith("hc_")
    assert run(dsns, "keys", "create", "reporting") == (
        1,
        "",
        "Error: there is a key called 'reporting' already\n",
    )
    assert run(dsns, "keys", "list")[1].split()[2:] == ["read", "reporting"]
    assert run(dsns, "keys", "delete", "reporting")[0] == 0
    assert run(dsns, "keys", "delete", "reporting") == (1, "", "Error: there is no key called 'reporting'\n")
    assert run(dsns, "keys", "create", "")[0] == 2


def test_keys_need_the_owner(dsns: CloneDsns) -> None:
    done = hopcount("keys", "list", settings={"database_url": dsns.service})
    assert (done.returncode, done.stderr) == (
        1,
        "Error: this needs HOPCOUNT_ADMIN_DATABASE_URL, or --database-url\n",
    )
    status, _, error = run(dsns, "keys", "list", admin_database_url=dsns.service)
    assert status == 1
    assert error.startswith("hopcount: ")
    assert "hopcount_owner" in error


def test_db_drop_clicks(dsns: CloneDsns) -> None:
    this = partitions.newest_boundary(datetime.now(UTC))
    execute(dsns.superuser, f"INSERT INTO hopcount.clicks VALUES ('{this.plus(-1).first_id}', 'old')")
    assert run(dsns, "db", "drop-clicks", "--before", "next year")[0] == 2
    ahead = this.plus(1)
    status, _, error = run(dsns, "db", "drop-clicks", "--before", f"{ahead.year:04}-{ahead.month:02}-01")
    assert status == 2
    assert "cannot be dropped before it has been over" in error
    first = f"{this.year:04}-{this.month:02}-01"
    status, output, _ = run(dsns, "db", "drop-clicks", "--before", first[:-1] + "2")
    assert status == 0
    assert output.startswith(f"1 clicks from before {first} deleted that were in no month's partition\n")
    assert "click_count still counts them" in output
    assert f"those from {first} to {first[:-1]}2 stay" in output
    assert run(dsns, "db", "drop-clicks", "--before", first)[1].startswith(f"No click from before {first} is left.")


def test_db(dsns: CloneDsns) -> None:
    assert run(dsns, "db", "check") == (0, "The schema is the one that this release needs.\n", "")
    execute(dsns.superuser, "INSERT INTO hopcount.clicks VALUES (gen_random_uuid(), 'gone')")
    assert run(dsns, "db", "tidy") == (0, "1 clicks of 1 deleted links are gone.\n", "")
    assert run(dsns, "db", "partitions", "--ahead", "0") == (0, "All are there.\n", "")
    status, output, _ = run(dsns, "db", "partitions", "--ahead", "5")
    assert (status, output.count(" made\n")) == (0, 2)
    execute(dsns.superuser, "DROP TABLE hopcount.api_keys")
    status, _, error = run(dsns, "db", "check")
    assert status == 1
    assert "hopcount.api_keys is missing" in error


def test_an_export_that_fails_leaves_the_one_before(dsns: CloneDsns, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("before")
    nowhere = "postgresql://x@127.0.0.1:1/x"
    assert run(dsns, "urls", "export", "out.csv", cwd=tmp_path, database_url=nowhere)[0] == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"out.csv": "before"}


def test_an_export_to_a_full_disk_says_so(dsns: CloneDsns) -> None:
    status, _, said = run(dsns, "urls", "export", "/dev/full")
    assert (status, said) == (1, "Error: /dev/full cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["serve", "--port", "70000"], {}, "HOPCOUNT_PORT"),
        (["serve"], {"workers": "none"}, "HOPCOUNT_WORKERS"),
        (["serve"], {"prot": "1"}, "HOPCOUNT_PROT is not a setting"),
        (["serve"], {"base_url": "nonsense"}, "HOPCOUNT_BASE_URL"),
        (["urls", "import", "missing.csv"], {}, "missing.csv"),
        (["urls", "export", "/nowhere/x.csv"], {}, "/nowhere/x.csv"),
        (["urls", "stats"], {"database_url": "nonsense"}, "invalid DSN"),
        (["urls", "stats"], {"database_url": "postgresql://x@127.0.0.1:1/x"}, "Connect call failed"),
        (["urls", "stats", "--database-url", "postgresql://x@127.0.0.1:1/x"], {}, "Connect call failed"),
        (["db", "check"], {"database_url": "postgresql://x@127.0.0.1:1/x"}, "Connect call failed"),
        (["keys", "create", "x", "--scope", "all"], {}, "'all'"),
        (["nonsense"], {}, "No such command"),
    ],
)
def test_errors_are_a_line_and_a_status(arguments: list[str], settings: dict[str, object], said: str) -> None:
    done = hopcount(*arguments, settings=settings)
    assert done.returncode in (1, 2)
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_database_that_goes_away_is_told_with_what_is_done(dsns: CloneDsns, tmp_path: Path) -> None:
    execute(
        dsns.superuser,
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$; "
        "CREATE TRIGGER stop BEFORE INSERT ON hopcount.urls FOR EACH ROW "
        "WHEN (NEW.short_code = 'n1500') EXECUTE FUNCTION stop(); "
        "GRANT EXECUTE ON FUNCTION pg_terminate_backend TO hopcount_service",
    )
    lines = "original_url,short_code\n" + "".join(f"https://example.org/{n},n{n}\n" for n in range(3000))
    status, _, error = run(dsns, "urls", "import", "-", stdin=lines, cwd=tmp_path)
    assert status == 1
    assert error.endswith("The lines up to 1,001 are done.\n")
    assert len(stored(dsns)) == 1000


def test_a_terminal_sees_progress_and_a_pipe_does_not(dsns: CloneDsns, tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("".join(f"https://example.org/{n}\n" for n in range(5000)))
    assert run(dsns, "urls", "import", "urls.txt", cwd=tmp_path)[2] == ""

    seen = b""

    def collect(fd: int) -> bytes:
        nonlocal seen
        data = os.read(fd, 1024)
        seen += data
        return data

    here = Path.cwd()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        given = environment(database_url=dsns.service) | {"TERM": "xterm"}
        os.execve(HOPCOUNT, [str(HOPCOUNT), "urls", "import", "urls.txt"], given)  # noqa: S606
    try:
        while collect(terminal):
            pass
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"Importing" in seen
    assert b"5,000 created" in seen
    assert Path.cwd() == here
