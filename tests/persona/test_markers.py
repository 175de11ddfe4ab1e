"""What the marker filter promises for any text, cut anywhere."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.persona.markers import MAX_HELD, MarkerFilter, disarm_markers, remove_markers

VALID = (1, 2, 3)
MARKER = re.compile(
    r"\[[ \t]*[0-9]+(?:[ \t]*[,;-][ \t]*[0-9]+)*[ \t]*\]|【[ \t]*[0-9]+(?:[ \t]*[,;-][ \t]*[0-9]+)*[ \t]*】"
)

ANY_TEXT = st.one_of(
    st.text(),
    st.text(alphabet="[]1279,- ab\n【】†", max_size=40),
    st.text(alphabet="[]19`~ a\n", max_size=60),
    st.lists(
        st.sampled_from(
            ["[1]", "[9]", "[1, 2]", "[[", "]]", "`", "```", "\n", "a[10]", " ", "【2】", "【2†p.4】", "inka "]
        )
    ).map("".join),
)


def filtered(text: str, *cuts: int, valid: tuple[int, ...] = VALID) -> tuple[str, tuple[int, ...]]:
    markers = MarkerFilter(valid)
    ends = [*sorted(cuts), len(text)]
    pieces = [markers.feed(text[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    return "".join([*pieces, markers.finish()]), markers.used


@given(text=ANY_TEXT, data=st.data())
def test_output_does_not_depend_on_how_the_text_was_cut(text: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    assert filtered(text, *cuts) == filtered(text)


@given(text=ANY_TEXT)
def test_filtering_twice_changes_nothing(text: str) -> None:
    output, used = filtered(text)
    again, used_again = filtered(output)
    assert again == output
    assert sorted(used_again) == sorted(used)


@given(text=ANY_TEXT.filter(lambda text: not set(text) & set("`~")))
def test_text_without_code_holds_exactly_the_markers_that_were_recorded(text: str) -> None:
    output, used = filtered(text)
    found = [match for match in MARKER.findall(output) if len(match) <= MAX_HELD]
    assert set(found) == {f"[{number}]" for number in used}
    assert set(used) <= set(VALID)


@given(text=ANY_TEXT.filter(lambda text: not re.search("```|~~~", text)))
def test_without_a_code_block_an_invented_number_stands_at_most_as_an_index(text: str) -> None:
    output, used = filtered(text)
    invented = {
        match[0]
        for match in MARKER.finditer(output)
        if len(match[0]) <= MAX_HELD and not re.search(r"(?:[^\W_]|[_)'\"\]])\Z", output[: match.start()])
    }
    assert invented <= {f"[{number}]" for number in used}
    assert set(used) <= set(VALID)


@given(text=ANY_TEXT.filter(lambda text: not set(text) & set("[【")))
def test_text_without_opening_brackets_passes_unchanged_and_at_once(text: str) -> None:
    markers = MarkerFilter(VALID)
    assert [markers.feed(character) for character in text] == list(text)


@given(text=ANY_TEXT)
def test_never_more_than_32_characters_are_held_back(text: str) -> None:
    markers = MarkerFilter(VALID)
    for character in text:
        markers.feed(character)
        assert len(markers._held) < MAX_HELD


@pytest.mark.parametrize(
    ("text", "expected", "used"),
    [
        ("Leaves are green [1].", "Leaves are green [1].", (1,)),
        ("Leaves [2] and roots [1] and leaves [2]", "Leaves [2] and roots [1] and leaves [2]", (2, 1)),
        ("both [1, 2].", "both [1][2].", (1, 2)),
        ("both [1; 3].", "both [1][3].", (1, 3)),
        ("all [1-3].", "all [1][2][3].", (1, 2, 3)),
        ("half [1, 7].", "half [1].", (1,)),
        ("half [1][7].", "half [1].", (1,)),
        ("twice [2, 2].", "twice [2].", (2,)),
        ("zeros [01].", "zeros [1].", (1,)),
        ("lenticular【1】", "lenticular[1]", (1,)),
        ("a place【2†p. 4】", "a place[2]", (2,)),
    ],
)
def test_known_markers_are_written_one_by_one(text: str, expected: str, used: tuple[int, ...]) -> None:
    assert filtered(text) == (expected, used)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("made up [7] here", "made up here"),
        ("made up[7].", "made up."),
        ("[9] first", "first"),
        ("zero [0].", "zero ."),
        ("a year [2019-2020]!", "a year !"),
        ("【9】", ""),
        ("[99999999999999999999]", ""),
    ],
)
def test_numbers_without_a_source_vanish(text: str, expected: str) -> None:
    assert filtered(text) == (expected, ())


def test_what_stands_around_a_vanished_number_does_not_become_a_marker() -> None:
    assert filtered("[[7]1]") == ("[[]1]", ())


@pytest.mark.parametrize(
    "text",
    [
        "- [x] done\n- [ ] open",
        "see [the book](https://example.org/a[b])",
        "footnote[^1]",
        "an open bracket [1",
        "an open bracket [",
        "[a, b], [-], [,]",
        "[१]",
        "[" + "1, " * 20 + "1]",
        "\\[ x \\]",
    ],
)
def test_other_brackets_stay_as_they_are(text: str) -> None:
    assert filtered(text) == (text, ())


@pytest.mark.parametrize(
    "code",
    [
        "```python\na[10] = b[1]\n```\n",
        "~~~\na[10]\n~~~\n",
        "  ```\n  a[10]\n  ```\n",
        "use `a[10]` here ",
        "use ``a[10] ` b`` here ",
        "```\nnever closed a[10]\n",
    ],
)
def test_brackets_in_code_stay_as_they_are(code: str) -> None:
    assert filtered(code) == (code, ())


def test_markers_count_again_after_code() -> None:
    assert filtered("```\na[10]\n```\nso [2][8]\n`x[9]` [1]") == ("```\na[10]\n```\nso [2]\n`x[9]` [1]", (2, 1))


@pytest.mark.parametrize(
    ("text", "expected", "used"),
    [
        ("L`eau devient du sucre [1]. Le carbone aussi [9].", "L`eau devient du sucre [1]. Le carbone aussi .", (1,)),
        ("n`iki\nigisubizo [1][9]", "n`iki\nigisubizo [1]", (1,)),
        ("he said ``yes'' [2, 9]", "he said ``yes'' [2]", (2,)),
        ("as `[1]` or `[9]` says", "as `[1]` or `` says", (1,)),
        ("`so [1, 2]` and `x[9][2]`", "`so [1][2]` and `x[9][2]`", (1, 2)),
    ],
)
def test_a_backtick_hides_no_marker(text: str, expected: str, used: tuple[int, ...]) -> None:
    assert filtered(text) == (expected, used)


@pytest.mark.parametrize(
    "text", [" " * 1_000_000 + "x", "[" + " " * 1_000_000, "[1, " * 250_000], ids=["blanks", "open", "many"]
)
def test_cleaning_takes_no_longer_than_reading(text: str) -> None:
    """A pattern that tried every blank of the first anew would take hours."""
    assert remove_markers(text) == text
    assert disarm_markers(text) == text


def test_a_marker_goes_out_with_its_closing_bracket() -> None:
    markers = MarkerFilter(VALID)
    assert [markers.feed(character) for character in "a[1]b"] == ["a", "", "", "[1]", "b"]


@given(text=ANY_TEXT)
def test_removing_leaves_no_marker_even_in_code(text: str) -> None:
    assert not MARKER.search(remove_markers(text))


def test_removing_takes_the_blank_before_a_reference_along() -> None:
    assert remove_markers("Cells divide [12], then rest [3][4].") == "Cells divide, then rest."


@given(text=ANY_TEXT)
def test_disarming_leaves_no_marker(text: str) -> None:
    assert not MARKER.search(disarm_markers(text))


def test_disarming_keeps_the_numbers_readable() -> None:
    assert disarm_markers("as in a[1] and [2, 3]") == "as in a(1) and (2, 3)"
