"""What a link may lead to."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import destinations
from service.destinations import InvalidDestination

OWN = "short.example"

REFUSED = {
    "javascript:alert(1)": "http and https",
    "JaVaScRiPt:alert(1)": "http and https",
    "data:text/html,hello": "http and https",
    "file:///etc/passwd": "http and https",
    "ftp://example.org/": "http and https",
    "mailto:someone@example.org": "http and https",
    "example.org/path": "not an absolute URL",
    "//example.org/path": "not an absolute URL",
    "/path": "not an absolute URL",
    "": "not an absolute URL",
    "http://": "not an absolute URL",
    "https://exa mple.org/": "not an absolute URL",
    "http://[::1/": "not an absolute URL",
    "http://example.org:99999/": "not an absolute URL",
    " https://example.org/": "white space around",
    "https://example.org/ ": "white space around",
    "https://example.org/\n": "white space around",
    "\u00a0https://example.org/": "white space around",
    "https://exam\tple.org/": "control character",
    "java\nscript:alert(1)": "control character",
    "https://example.org/\r\nSet-Cookie: a=b": "control character",
    "https://example.org/\x00": "control character",
    "https://example.org/\x7f": "control character",
    "https://example.org/\x85x": "control character",
    "https://user@example.org/": "credentials",
    "https://user:secret@example.org/": "credentials",
    "https://:secret@example.org/": "credentials",
    "https://example.org/" + "a" * 9000: "longer than 8,192 bytes",
    "https://example.org/" + "ä" * 2000: "once parsed, is longer",
    f"https://{OWN}/abc": "back to this service",
    f"http://{OWN.upper()}:8000/abc": "back to this service",
    f"https://{OWN}./": "back to this service",
    "https://short%2eexample/": "back to this service",
    "https://example.org/\ud800": "not valid Unicode",
}

STORED = {
    "https://example.org": "https://example.org/",
    "HTTPS://EXAMPLE.org:443/a/../b": "https://example.org/b",
    "http://example.org/a b?c d#e f": "http://example.org/a%20b?c%20d#e%20f",
    "https://bücher.example/ä": "https://xn--bcher-kva.example/%C3%A4",
    "http://example.org\\path": "http://example.org/path",
    "http:example.org": "http://example.org/",
    "https://example.org/%": "https://example.org/%",
    "http://0x7f.1/": "http://127.0.0.1/",
    "https://notshort.example/": "https://notshort.example/",
}


@pytest.mark.parametrize(("url", "reason"), REFUSED.items())
def test_refused(url: str, reason: str) -> None:
    with pytest.raises(InvalidDestination, match=reason):
        destinations.checked(url, OWN)


@pytest.mark.parametrize(("url", "stored"), STORED.items())
def test_stored_as_browsers_parse_it(url: str, stored: str) -> None:
    assert destinations.checked(url, OWN) == stored


def test_the_longest_is_accepted() -> None:
    url = "https://example.org/" + "a" * (destinations.LONGEST - 20)
    assert destinations.checked(url, OWN) == url


@given(st.builds("{}://{}/{}".format, st.sampled_from(["http", "https"]), st.text(), st.text()))
def test_what_is_accepted_is_printable_short_and_stays_the_same(url: str) -> None:
    try:
        stored = destinations.checked(url, OWN)
    except InvalidDestination:
        return
    assert re.fullmatch(r"https?://[!-~]+", stored)
    assert len(stored) <= destinations.LONGEST
    assert destinations.checked(stored, OWN) == stored


@pytest.mark.parametrize("base_url", ["nonsense", "ftp://example.org"])
def test_a_base_url_that_is_none(base_url: str) -> None:
    with pytest.raises(InvalidDestination):
        destinations.host_of(base_url)
