"""The benches of the whole platform, at their smallest: they run to their end and tell every figure."""

from bench import first_token, ingestion, logins, memory
from bench.__main__ import table

MOMENTS = [f"{kind}_after_{moment}_mib" for moment in ("start", "answers") for kind in ("rss", "pss")]


def test_first_token_counts_the_questions_of_every_session() -> None:
    figures = first_token.run(questions=2, sessions=(2,))["2 at once"]
    assert figures["questions"] == 2
    assert 0 < figures["p50_ms"] <= figures["p95_ms"]


def test_memory_is_told_after_the_start_and_after_the_answers() -> None:
    figures = memory.run(questions=1)
    assert list(figures) == ["first_start_seconds", "second_start_seconds", *MOMENTS]
    # Shared pages count once for each process in the one, and once in the other.
    assert all(figures[f"rss_after_{at}_mib"] > figures[f"pss_after_{at}_mib"] > 0 for at in ("start", "answers"))


def test_the_memory_of_indexing_is_that_of_a_text_of_the_size_asked_for() -> None:
    figures = ingestion.run(megabytes=0.02)
    assert 0.02 <= figures["text_mib"] < 0.03
    assert figures["chunks"] > 4
    assert 0 < figures["resident_before_mib"] <= figures["resident_most_mib"]


def test_reading_is_told_idle_and_beside_logins() -> None:
    figures = logins.run(reads=20, logins=2)
    assert 0 < figures["idle_p50_ms"] <= figures["idle_p95_ms"]
    assert 0 < figures["busy_p50_ms"] <= figures["busy_p95_ms"]
    assert figures["p95_times_idle"] == figures["busy_p95_ms"] / figures["idle_p95_ms"]


def test_a_table_has_a_line_for_each_figure() -> None:
    assert table({"p50_ms": 1.234, "reads": "pk_postings"}).splitlines() == [
        "  p50_ms       1.23",
        "  reads     pk_postings",
    ]
