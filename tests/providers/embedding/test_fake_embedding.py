import asyncio
import subprocess
import sys

import numpy as np

from bwenge.providers.embedding.fake import FakeEmbedder, FakeTokenizer


async def test_the_order_and_the_case_of_words_do_not_matter() -> None:
    left, right = await FakeEmbedder().embed_documents(["Water boils", "boils WATER"])

    np.testing.assert_array_equal(left, right)


async def test_similarity_grows_with_the_share_of_common_words() -> None:
    embedder = FakeEmbedder()
    query = await embedder.embed_query("rivers of rwanda flow north")
    most, some, none = await embedder.embed_documents(
        ["rivers of rwanda flow south", "rivers of kenya dry up", "two plus three"]
    )

    assert query @ most > query @ some > query @ none


def test_vectors_are_the_same_in_another_process() -> None:
    program = (
        "import asyncio; from bwenge.providers.embedding.fake import FakeEmbedder;"
        "print(asyncio.run(FakeEmbedder().embed_query('amazi ni ubuzima')).tobytes().hex())"
    )

    other = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603  # our own program

    assert other == asyncio.run(FakeEmbedder().embed_query("amazi ni ubuzima")).tobytes().hex()


async def test_the_number_of_dimensions_is_a_choice() -> None:
    assert (await FakeEmbedder(dimensions=16).embed_query("water")).shape == (16,)


def test_punctuation_marks_are_pieces_of_their_own() -> None:
    assert FakeTokenizer().offsets("Yes, sir!") == [(0, 3), (3, 4), (5, 8), (8, 9)]
