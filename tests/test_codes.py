"""Short codes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import codes
from service.codes import InvalidCode

SHAPED = st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-", min_size=1, max_size=32)


def test_generated_codes_have_eight_characters_of_the_alphabet_and_are_usable() -> None:
    made = {codes.generated() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(code) == 8 and code.isascii() and code.isalnum() for code in made)
    assert all(codes.checked(code) == code for code in made)


@given(SHAPED.filter(lambda code: code.lower() not in codes.RESERVED))
def test_a_code_of_the_right_shape_is_accepted_and_found_in_a_path(code: str) -> None:
    assert codes.checked(code) == code
    assert codes.in_path(f"/{code}") == code


@given(st.text(max_size=40).filter(lambda text: not text.isascii() or not text.isalnum()))
def test_any_other_text_is_refused_as_a_code_and_is_no_redirect(text: str) -> None:
    if text and len(text) <= 32 and all(c.isascii() and (c.isalnum() or c in "_-") for c in text):
        return
    with pytest.raises(InvalidCode):
        codes.checked(text)
    assert codes.in_path(f"/{text}") is None


@pytest.mark.parametrize("code", ["", "a" * 33, "a b", "a/b", "a\n", "ä", "a.b", "%41"])
def test_malformed(code: str) -> None:
    with pytest.raises(InvalidCode, match="1 to 32 characters"):
        codes.checked(code)
    assert codes.in_path(f"/{code}") is None


@pytest.mark.parametrize("code", sorted(codes.RESERVED))
def test_reserved_segments_are_no_codes_in_any_case(code: str) -> None:
    for variant in (code, code.upper(), code.title()):
        with pytest.raises(InvalidCode, match="reserved"):
            codes.checked(variant)
    assert codes.in_path(f"/{code}") is None


@pytest.mark.parametrize("path", ["/", "", "//a", "/a/", "/api/v1/urls", "a", "/health/live"])
def test_paths_that_are_no_redirect(path: str) -> None:
    assert codes.in_path(path) is None
