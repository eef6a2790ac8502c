"""Links from and to files: CSV with the header `original_url,short_code`, or one URL a line."""

import csv
from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO

import msgspec

from service import codes, destinations, links
from service.store.urls import Link, Outcome, Urls

BATCH = 1000
"""Lines that go into one transaction."""
LONGEST_LINE = 64 * 1024
"""Bytes; far more than any acceptable one has."""
COLUMNS = ("original_url", "short_code")


class InvalidFile(ValueError):
    """This cannot be imported as a whole; the message says why."""


class Line(msgspec.Struct, frozen=True):
    """A line of an import and what came of it."""

    number: int
    text: str
    link: tuple[str, str] | None
    """Destination and short code, as stored; None where it was rejected."""
    outcome: Outcome | None
    reason: str | None
    """Why it was rejected."""


class _Wanted(msgspec.Struct, frozen=True):
    number: int
    text: str
    original_url: str
    short_code: str | None


async def imported(source: BinaryIO, urls: Urls, own_host: str) -> AsyncIterator[list[Line]]:
    """Make the links that `source` lists, batch by batch: the lines of each, once it is committed.

    Raises InvalidFile before anything is stored; Unavailable, after which the lines that were yielded are in.
    """
    rejected: list[Line] = []
    wanted: list[_Wanted] = []
    for item in _parsed(source, own_host):
        if isinstance(item, Line):
            rejected.append(item)
        else:
            wanted.append(item)
        if len(rejected) + len(wanted) == BATCH:
            yield await _stored(urls, wanted, rejected)
            rejected, wanted = [], []
    yield await _stored(urls, wanted, rejected)


async def _stored(urls: Urls, wanted: list[_Wanted], rejected: list[Line]) -> list[Line]:
    """Make the `wanted` links: these lines and those `rejected` before, in their order."""
    lines = list(rejected)
    done = await links.create_all(urls, [(line.original_url, line.short_code) for line in wanted])
    for line, (link, outcome) in zip(wanted, done, strict=True):
        if outcome == "taken":
            reason = f"The short code {link.short_code!r} is taken."
            lines.append(Line(line.number, line.text, None, outcome, reason))
        else:
            lines.append(Line(line.number, line.text, (link.original_url, link.short_code), outcome, None))
    return sorted(lines, key=lambda line: line.number)


def _parsed(source: BinaryIO, own_host: str) -> Iterator[_Wanted | Line]:
    columns: list[str] | None = None
    for number, raw in enumerate(_lines(source), start=1):
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        if number == 1:
            text = text.removeprefix("\ufeff")
            columns = _columns(text)
            if columns is not None:
                continue
        if not text.strip():
            continue
        try:
            if len(raw) > LONGEST_LINE:
                raise ValueError(f"The line is longer than {LONGEST_LINE:,} bytes.")
            raw.decode()
            original_url, short_code = (text, None) if columns is None else _record(text, columns)
            if short_code is not None:
                codes.checked(short_code)
            yield _Wanted(number, text, destinations.checked(original_url, own_host), short_code)
        except UnicodeDecodeError:
            yield Line(number, text, None, None, "The line is not UTF-8.")
        except (ValueError, csv.Error) as error:
            yield Line(number, text, None, None, str(error))


def _columns(header: str) -> list[str] | None:
    """The columns that a header names; None where it is none. Raises InvalidFile."""
    names = [name.strip() for name in header.split(",")]
    if COLUMNS[0] not in names:
        return None
    if len(set(names)) != len(names) or not set(names) <= set(COLUMNS):
        raise InvalidFile(f"the header is {header!r}, where {','.join(COLUMNS)} is expected")
    return names


def _record(text: str, columns: list[str]) -> tuple[str, str | None]:
    """The fields of one line: a line is a record, since no destination contains a line break."""
    (record,) = csv.reader([text], strict=True)
    if len(record) > len(columns):
        raise ValueError(f"The line has {len(record)} fields, where at most {len(columns)} are expected.")
    fields = dict(zip(columns, record, strict=False))
    return fields.get(COLUMNS[0], ""), fields.get(COLUMNS[1]) or None


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """The lines of `source`, of a very long one only the beginning."""
    while line := source.readline(LONGEST_LINE + 1):
        rest = line
        while not rest.endswith(b"\n") and (rest := source.readline(LONGEST_LINE)):
            pass
        yield line


def row(link: Link) -> tuple[str, str]:
    """The fields of an exported link."""
    return link.original_url, link.short_code
