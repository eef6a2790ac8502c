"""Settings from the environment and the command line."""

from pathlib import Path

import pytest

from service import settings
from service.settings import InvalidSettings, Settings


def test_nothing_set_gives_the_defaults() -> None:
    assert settings.read({"PATH": "/bin"}) == Settings()


def test_what_is_given_goes_before_the_environment() -> None:
    read = settings.read(
        {"HOPCOUNT_PORT": "9000", "HOPCOUNT_WORKERS": "3", "HOPCOUNT_DATA_DIR": "/somewhere"},
        port=9001,
        workers=None,
    )
    assert (read.port, read.workers, read.data_dir) == (9001, 3, Path("/somewhere"))


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"HOPCOUNT_PROT": "9000"}, "HOPCOUNT_PROT is not a setting"),
        ({"HOPCOUNT_PORT": "many"}, "HOPCOUNT_PORT"),
        ({"HOPCOUNT_PORT": "0"}, "HOPCOUNT_PORT"),
        ({"HOPCOUNT_DEADLINE": "-1"}, "HOPCOUNT_DEADLINE"),
        ({"HOPCOUNT_REDIRECT_STATUS": "303"}, "HOPCOUNT_REDIRECT_STATUS"),
        ({"HOPCOUNT_LOCK_TIMEOUT": "2"}, "HOPCOUNT_LOCK_TIMEOUT must be well below HOPCOUNT_DEADLINE"),
        ({"HOPCOUNT_BASE_URL": "nonsense"}, "HOPCOUNT_BASE_URL"),
        ({"HOPCOUNT_RATE_LIMIT": "600"}, "HOPCOUNT_RATE_LIMIT"),
        ({"HOPCOUNT_RATE_LIMIT": "0/minute"}, "HOPCOUNT_RATE_LIMIT"),
        ({"HOPCOUNT_RATE_LIMIT": "10001/day"}, "HOPCOUNT_RATE_LIMIT"),
        ({"HOPCOUNT_TRUSTED_PROXIES": "10.0.0.0/8, proxy"}, "HOPCOUNT_TRUSTED_PROXIES: 'proxy'"),
        ({"HOPCOUNT_TRUSTED_PROXIES": "10.0.0.1/8"}, "HOPCOUNT_TRUSTED_PROXIES: 10.0.0.1/8 has host bits set"),
        ({"HOPCOUNT_LOG_LEVEL": "loud"}, "HOPCOUNT_LOG_LEVEL"),
    ],
)
def test_a_bad_setting_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSettings, match=named):
        settings.read(environ)


def test_a_setting_can_stand_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://service@db/hopcount\n")
    named = {"HOPCOUNT_DATABASE_URL_FILE": str(secret)}
    assert settings.read(named).database_url == "postgresql://service@db/hopcount"
    assert settings.read(named, database_url="postgresql://given").database_url == "postgresql://given"
    with pytest.raises(InvalidSettings, match="HOPCOUNT_DATABASE_URL and HOPCOUNT_DATABASE_URL_FILE are both set"):
        settings.read(named | {"HOPCOUNT_DATABASE_URL": "postgresql://other"})
    with pytest.raises(InvalidSettings, match=r"HOPCOUNT_DATABASE_URL_FILE: .*missing cannot be read: No such file"):
        settings.read({"HOPCOUNT_DATABASE_URL_FILE": str(tmp_path / "missing")})
    secret.write_bytes(b"\xff")
    with pytest.raises(InvalidSettings, match="it is not text"):
        settings.read(named)
    secret.write_text("9000")
    with pytest.raises(InvalidSettings, match="HOPCOUNT_PROT is not a setting"):
        settings.read({"HOPCOUNT_PROT_FILE": str(secret)})


def test_the_public_url_is_the_base_url_or_the_address() -> None:
    assert Settings(base_url="https://hop.example/").public_url == "https://hop.example"
    assert Settings(host="::1", port=80).public_url == "http://[::1]:80"


def test_lists_and_rates_are_taken_apart() -> None:
    read = settings.read({"HOPCOUNT_TRUSTED_PROXIES": "10.0.0.0/8, ::1", "HOPCOUNT_RATE_LIMIT": "10000/day"})
    assert read.trusted_proxies == ("10.0.0.0/8", "::1")
    assert read.requests_per == (10_000, "day")
    assert Settings().requests_per is None
