import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.persona.declining import DECLINED, DeclineGate

ANY_ANSWER = st.one_of(
    st.text(),
    st.lists(st.sampled_from(["NOT", "_", "IN", DECLINED, "NOT_IN_SOURCE", " ", "N", "\n", '"', "[", "so"])).map(
        "".join
    ),
)


def gated(text: str, *cuts: int) -> tuple[str, bool]:
    gate = DeclineGate()
    ends = [*sorted(cuts), len(text)]
    pieces = [gate.feed(text[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    return "".join([*pieces, gate.finish()]), gate.is_declined


@given(text=ANY_ANSWER, data=st.data())
def test_the_word_never_gets_out_however_the_answer_is_cut(text: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    output, declined = gated(text, *cuts)
    assert DECLINED not in output
    assert (output, declined) == gated(text)


@given(text=ANY_ANSWER.filter(lambda text: DECLINED not in text))
def test_an_answer_without_the_word_passes_whole(text: str) -> None:
    output, declined = gated(text)
    assert declined or output == text


@pytest.mark.parametrize(
    "answer",
    [
        DECLINED,
        f"  {DECLINED}.",
        f"**{DECLINED}**",
        f'"{DECLINED}"',
        f"[{DECLINED}]",
        "not in sources",
        f"{DECLINED} [1]",
    ],
)
def test_an_answer_that_is_the_word_shows_nothing(answer: str) -> None:
    assert gated(answer) == ("", True)


@pytest.mark.parametrize("answer", ["No.", "NO", "N", "NOT_IN", "Not in Rwanda, but in Kenya."])
def test_an_answer_that_only_begins_like_the_word_is_shown(answer: str) -> None:
    assert gated(answer) == (answer, False)


def test_after_the_word_nothing_is_shown() -> None:
    assert gated(f"Leaves are green [1]. {DECLINED} and more {DECLINED}") == ("Leaves are green [1]. ", True)


def test_the_beginning_of_a_plain_answer_is_not_held() -> None:
    gate = DeclineGate()
    assert gate.feed("L") == "L"
