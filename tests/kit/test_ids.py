import time

from bwenge.kit.ids import new_id


def test_ids_rise_in_the_order_in_which_they_are_made() -> None:
    ids = [new_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))


def test_an_id_is_a_uuid_of_version_7_that_holds_the_time() -> None:
    before, made, after = time.time_ns() // 10**6, new_id(), time.time_ns() // 10**6
    assert made.version == 7
    assert before <= made.int >> 80 <= after + 1
