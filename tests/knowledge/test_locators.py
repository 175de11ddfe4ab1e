from bwenge.knowledge.locators import Locator


def test_the_wire_form_holds_only_what_is_known() -> None:
    assert Locator(char_start=0, char_end=9, page=3).as_dict() == {"char_start": 0, "char_end": 9, "page": 3}


def test_a_recording_begins_at_zero_seconds() -> None:
    fields = Locator(char_start=0, char_end=9, start_time=0.0, end_time=4.5).as_dict()
    assert fields == {"char_start": 0, "char_end": 9, "start_time": 0.0, "end_time": 4.5}
