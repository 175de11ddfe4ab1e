"""What PostgreSQL cannot hold is refused at the door."""

from typing import Any

import pytest

from bwenge.kit.storable import require_storable, storable


@pytest.mark.parametrize("value", ["a\x00b", {"k": ["\ud800"]}, {"\x00": 1}, [[["\udfff"]]]])
def test_unstorable_text_is_found_wherever_it_stands(value: Any) -> None:
    with pytest.raises(ValueError, match="NUL"):
        require_storable(value)


@pytest.mark.parametrize("value", ["", "Umuganda 🇷🇼 \n\t", {"k": [1, None, True, "x"]}])
def test_ordinary_values_pass(value: Any) -> None:
    require_storable(value)


def test_nesting_of_any_depth_is_searched() -> None:
    value: Any = "\x00"
    for _ in range(5_000):
        value = [value]
    with pytest.raises(ValueError, match="NUL"):
        require_storable(value)


def test_text_from_documents_loses_only_what_cannot_be_stored() -> None:
    assert storable("a\x00b\ud800c é") == "abc é"
