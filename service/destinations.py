"""Destinations: what a link may lead to, and how it is stored and sent."""

import unicodedata

from ada_url import URL

LONGEST = 8192
"""Bytes, as given and as parsed."""


class InvalidDestination(ValueError):
    """A URL cannot be a destination; the message says why."""


def checked(url: str, own_host: str) -> str:
    """`url` as browsers parse it (WHATWG URL Standard): printable ASCII, the form that is stored and sent.

    `own_host` is the host name of the service, which no link may lead back to. Raises InvalidDestination.
    """
    # Looked for first: the parser would strip them, and what was sent would not be what is stored.
    if url != url.strip():
        raise InvalidDestination("The URL has white space around it.")
    if has_control_character(url):
        raise InvalidDestination("The URL contains a control character.")
    try:
        length = len(url.encode())
    except UnicodeEncodeError:
        raise InvalidDestination("The URL is not valid Unicode.") from None
    if length > LONGEST:
        raise InvalidDestination(f"The URL is longer than {LONGEST:,} bytes.")
    try:
        parsed = URL(url)
    except ValueError:
        raise InvalidDestination("This is not an absolute URL.") from None
    if parsed.protocol not in ("http:", "https:"):
        raise InvalidDestination("Only http and https URLs can be destinations.")
    if parsed.username or parsed.password:
        raise InvalidDestination("The URL contains credentials.")
    if parsed.hostname.rstrip(".") == own_host:
        raise InvalidDestination("The URL leads back to this service.")
    if len(parsed.href) > LONGEST:
        raise InvalidDestination(f"The URL, once parsed, is longer than {LONGEST:,} bytes.")
    return parsed.href


def has_control_character(text: str) -> bool:
    """Whether `text` contains what no destination does, and what PostgreSQL takes only in part."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def host_of(base_url: str) -> str:
    """The host name of the service's own base URL, as `checked` takes it. Raises InvalidDestination."""
    try:
        parsed = URL(base_url)
    except ValueError:
        raise InvalidDestination(f"{base_url!r} is not an absolute URL.") from None
    if parsed.protocol not in ("http:", "https:"):
        raise InvalidDestination(f"{base_url!r} is not an http or https URL.")
    return parsed.hostname.rstrip(".")
