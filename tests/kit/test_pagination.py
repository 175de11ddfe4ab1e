"""Cursors: opaque, sound, and never past the page's end."""

from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.kit.ids import new_id
from bwenge.kit.pagination import InvalidCursor, _decode, _encode, cut_page


@dataclass(frozen=True)
class Row:
    id: UUID


ROWS = [Row(new_id()) for _ in range(6)]


@given(st.uuids())
def test_a_cursor_leads_back_to_its_row(row_id: UUID) -> None:
    assert _decode(_encode(row_id)) == row_id


@given(st.text(max_size=64))
def test_any_other_text_is_refused_or_a_row_id_and_never_an_error_of_ours(text: str) -> None:
    try:
        assert isinstance(_decode(text), UUID)
    except InvalidCursor as refusal:
        assert refusal.errors[0]["field"] == "cursor"  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_rows_that_fit_the_page_have_no_cursor(count: int) -> None:
    assert cut_page(ROWS[:count], 5) == (ROWS[:count], None)


def test_a_row_too_many_is_cut_off_and_the_cursor_is_the_last_that_is_kept() -> None:
    kept, cursor = cut_page(ROWS, 5)
    assert kept == ROWS[:5]
    assert cursor == _encode(ROWS[4].id)
