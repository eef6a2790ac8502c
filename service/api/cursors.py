"""Cursors of pages: an id, opaque to clients."""

import base64
import binascii
from uuid import UUID


class InvalidCursor(ValueError):
    """This is no cursor that a page has given out."""


def written(last: UUID) -> str:
    """The cursor of the page that comes after the link `last`."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def read(cursor: str) -> UUID:
    """Raises InvalidCursor."""
    try:
        last = UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except (ValueError, binascii.Error):
        raise InvalidCursor("This cursor is none that was given out.") from None
    if written(last) != cursor:  # decoding skips characters that do not belong
        raise InvalidCursor("This cursor is none that was given out.")
    return last
