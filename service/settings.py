"""The settings of one Hopcount process: a frozen Struct, read from `HOPCOUNT_*`."""

import os
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec

_PREFIX = "HOPCOUNT_"
_FILE = "_FILE"

_RATE = "^([1-9][0-9]{0,3}|10000)/(second|minute|hour|day)$"

Unit = Literal["second", "minute", "hour", "day"]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=300)]


class InvalidSettings(ValueError):
    """A setting is unknown or its value is not usable; the message names it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set; field `x_y` is read from `HOPCOUNT_X_Y`, or from the file that `HOPCOUNT_X_Y_FILE` names.

    Durations are seconds.
    """

    data_dir: Path = Path(".hopcount")
    """Where the embedded PostgreSQL and the first API key live."""
    database_url: str | None = None
    """The database as the service's role; none means the embedded one. Through a pooler in transaction mode it
    ends in `?pool_mode=transaction`."""
    admin_database_url: str | None = None
    """The same database as a login that may act as `hopcount_owner`, for `keys` and `db`."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8000
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    base_url: Annotated[str, msgspec.Meta(pattern="^https?://[^/]")] | None = None
    """What short URLs start with; none means the address that is listened on."""
    redirect_status: Literal[301, 302, 307, 308] = 302

    rate_limit: Annotated[str, msgspec.Meta(pattern=_RATE)] | None = None
    """API calls with one key, like `600/minute` (second, minute, hour or day; at most 10,000 in it), for each
    worker process. None means no limit. Redirects are never limited."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks, with commas between them, whose X-Forwarded-For and -Proto are believed."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """From `info` on, each API call is logged."""

    deadline: Seconds = 2.0
    """From the arrival of a redirect to its answer: at the latest then, 503."""
    lock_timeout: Seconds = 0.25
    """How long a batch waits for a row that somebody else holds, before it goes on without it."""
    batch_limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 256
    """Clicks in one statement, at most."""
    flushers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """Statements in flight at once, for each worker; each has a connection of its own."""
    queue_limit: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Redirects a worker has accepted and not answered; what comes beyond is shed with 503.
    Half of it is for those that wait for one locked link, at most."""
    pool_size: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    """Connections for everything but redirects, for each worker, at most."""

    @property
    def public_url(self) -> str:
        """The base of short URLs, with no slash at its end."""
        return self.address if self.base_url is None else self.base_url.rstrip("/")

    @property
    def requests_per(self) -> tuple[int, Unit] | None:
        """The rate limit: how many, in what."""
        if self.rate_limit is None:
            return None
        requests, _, unit = self.rate_limit.partition("/")
        return int(requests), cast("Unit", unit)

    @property
    def address(self) -> str:
        """What is listened on, as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def read(environ: Mapping[str, str] = os.environ, **given: Any) -> Settings:
    """Settings from `HOPCOUNT_*` in `environ`; what is `given` and not None goes before.

    Raises InvalidSettings.
    """
    values: dict[str, Any] = {}
    for name, value in environ.items():
        if name.startswith(_PREFIX) and value != "":
            if name.endswith(_FILE):
                name, value = name.removesuffix(_FILE), _content(name, value)
                if environ.get(name, "") != "":
                    raise InvalidSettings(f"{name} and {name}{_FILE} are both set")
            values[name.removeprefix(_PREFIX).lower()] = value
    values.update((name, value) for name, value in given.items() if value is not None)
    if "trusted_proxies" in values:
        values["trusted_proxies"] = [proxy.strip() for proxy in values["trusted_proxies"].split(",")]
    unknown = sorted(set(values) - set(Settings.__struct_fields__))
    if unknown:
        raise InvalidSettings(f"{_PREFIX}{unknown[0].upper()} is not a setting")
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        name = _PREFIX + path.rstrip("`").upper()
        raise InvalidSettings(f"{name}: {reason[:1].lower()}{reason[1:]}") from None
    if settings.lock_timeout >= settings.deadline:
        raise InvalidSettings(f"{_PREFIX}LOCK_TIMEOUT must be well below {_PREFIX}DEADLINE")
    for proxy in settings.trusted_proxies:
        try:
            ip_network(proxy)
        except ValueError as error:
            raise InvalidSettings(f"{_PREFIX}TRUSTED_PROXIES: {error}") from None
    return settings


def _content(name: str, path: str) -> str:
    """What stands in the file that the variable `name` names: how Docker and systemd hand over secrets."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidSettings(f"{name}: {path} cannot be read: {reason}") from None


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)


def share(name: str, value: str) -> None:
    """Set a variable of this process and of those that it starts, for a library that cannot be told otherwise."""
    os.environ[name] = value


def environment(*names: str) -> dict[str, str]:
    """The variables `names` of this process that are set, to pass on to a program that it starts."""
    return {name: os.environ[name] for name in names if name in os.environ}
