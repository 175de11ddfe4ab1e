from pathlib import Path

import numpy as np

from bwenge.kit.ids import new_id
from bwenge.knowledge.index_rows import VectorBatch
from bwenge.knowledge.spool import Spool


async def test_pieces_come_back_in_order_and_as_often_as_asked(tmp_path: Path) -> None:
    with Spool[str](tmp_path) as spool:
        for piece in ("a", "b", "c"):
            spool.add(piece)
        assert [piece async for piece in spool.pieces()] == ["a", "b", "c"]
        assert [piece async for piece in spool.pieces()] == ["a", "b", "c"]


async def test_vectors_come_back_as_they_were(tmp_path: Path) -> None:
    batch = VectorBatch([new_id()], [1], np.array([[0.25, -1.5]], dtype=np.float16))
    with Spool[VectorBatch](tmp_path) as spool:
        spool.add(batch)
        (found,) = [piece async for piece in spool.pieces()]
    assert (found.chunk_ids, found.window_indexes) == (batch.chunk_ids, batch.window_indexes)
    assert np.array_equal(found.embeddings, batch.embeddings)
    assert found.embeddings.dtype == np.float16


async def test_a_spool_has_no_name_that_anybody_could_open(tmp_path: Path) -> None:
    with Spool[str](tmp_path) as spool:
        spool.add("a")
        assert list(tmp_path.iterdir()) == []
