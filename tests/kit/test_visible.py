import pytest

from bwenge.kit.visible import holds_controls, is_visible

INVISIBLE = (
    "",
    " ",
    "\u200b",
    "\u2060",
    "\u034f",
    "\u3164",
    "\u115f\u1160",
    "\uffa0",
    "\U000e0041",
    "\u200d\u200c",
    "\ufe0f",
    "\u0301",
    "\u2800",
    "\U0001d159",
    "\u200b \u3164",
)


@pytest.mark.parametrize("text", INVISIBLE)
def test_text_of_nothing_that_shows_is_not_visible(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize("text", ["a", "7", "?", "\u20ac", "\U0001f469\u200d\U0001f3eb", "\u200b\u6559", "한"])
def test_text_is_visible_by_one_character(text: str) -> None:
    assert is_visible(text)


@pytest.mark.parametrize("char", ["\x00", "\n", "\x7f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069"])
def test_controls_are_found_anywhere(char: str) -> None:
    assert holds_controls(f"a{char}b")


@pytest.mark.parametrize("text", ["می\u200cخواهم", "क्\u200dष", "a\u200eb", "Mwalimu Keza"])
def test_joiners_and_plain_text_are_no_controls(text: str) -> None:
    assert not holds_controls(text)
    assert is_visible(text)
