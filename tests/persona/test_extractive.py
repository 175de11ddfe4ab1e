import re

from hypothesis import given, settings
from hypothesis import strategies as st

from bwenge.knowledge.contract import SearchHit, SearchResult
from bwenge.persona.evidence import gather_evidence
from bwenge.persona.extractive import LONGEST_ANSWER, Statement, compose, deltas
from bwenge.providers.embedding.fake import FakeEmbedder
from tests.support.personas import PHOTOSYNTHESIS, RESPIRATION, hit


async def composed(question: str, *hits: SearchHit) -> list[Statement]:
    return compose(await gather_evidence(question, SearchResult(hits, "en"), embedder=FakeEmbedder()))


async def test_the_answering_sentence_is_said_with_the_number_of_its_source() -> None:
    said = await composed("What does respiration break down?", hit(PHOTOSYNTHESIS), hit(RESPIRATION))
    assert said[0] == Statement(RESPIRATION.split(". ")[0] + ".", 2)


async def test_questions_headings_and_exercises_of_the_material_are_not_said() -> None:
    said = await composed("What are the two stages of photosynthesis?", hit(PHOTOSYNTHESIS))
    texts = [statement.text for statement in said]
    assert not any(text.startswith(("Photosynthesis\n", "What", "Explain")) for text in texts)
    assert texts


async def test_a_sentence_that_points_back_comes_with_the_one_before() -> None:
    said = await composed("What is the by-product that is released?", hit(PHOTOSYNTHESIS))
    assert [statement.text[:14] for statement in said][:2] == ["Photosynthesis", "It releases ox"]


async def test_an_announced_list_is_said_with_its_items() -> None:
    text = "The parts of a flower are these:\n\n- petals that call insects\n- stamens with pollen inside"
    said = await composed("What are the parts of a flower?", hit(text))
    assert [statement.text for statement in said] == [
        "The parts of a flower are these:",
        "petals that call insects",
        "stamens with pollen inside",
    ]


async def test_the_same_thing_is_not_said_twice() -> None:
    said = await composed(
        "Where is sugar broken down?",
        hit("Sugar is broken down in the mitochondria of cells."),
        hit("Sugar is broken down in the mitochondria of the cells."),
    )
    assert len(said) == 1


async def test_beside_a_sentence_no_loose_end_is_said() -> None:
    text = "Rice is planted in March by farmers.\n\n- rice planted in March by farmers, weeded"
    said = await composed("When is rice planted in March by farmers?", hit(text))
    assert [statement.text for statement in said] == ["Rice is planted in March by farmers."]


async def test_sentences_of_one_source_are_said_in_its_order_whatever_their_score() -> None:
    late = hit("Rice is planted in March by farmers.", title="Farming", page=2)
    early = hit("Rice is planted by farmers in March when it rains.", title="Farming", page=1)
    said = await composed("When is rice planted in March by farmers?", late, early)
    assert [statement.marker for statement in said] == [2, 1]


async def test_more_sentences_are_added_only_while_there_is_room() -> None:
    filler = "and so on through the whole green valley of a thousand hills where farmers work every day " * 3
    texts = [f"Rice is planted in month {number} {filler}." for number in range(3)]
    said = await composed("When is rice planted?", *map(hit, texts))
    assert sum(len(statement.text) for statement in said) <= LONGEST_ANSWER


async def test_nothing_is_composed_from_a_table_of_contents() -> None:
    assert (
        await composed("What is in chapter 3?", hit("Chapter 3 Plants ......... 12\n\nChapter 4 Cells ........ 20"))
        == []
    )


def test_deltas_are_sentences_with_their_markers() -> None:
    said = [Statement("Leaves are green.", 1), Statement("Roots are not.", 3)]
    assert list(deltas(said)) == ["Leaves are green. [1]", " Roots are not. [3]"]


@settings(max_examples=50)
@given(st.lists(st.text(alphabet="ab[]12. \n?", max_size=80), min_size=1, max_size=4))
async def test_whatever_the_sources_hold_only_true_markers_are_said(texts: list[str]) -> None:
    hits = tuple(hit(text + f" {number}") for number, text in enumerate(texts))
    said = await composed("ab ba?", *hits)
    found = re.findall(r"\[\s*([0-9 ,-]+?)\s*\]", "".join(deltas(said)))
    assert found == [str(statement.marker) for statement in said]
