from bench.embedding import run


def test_the_bench_measures_throughput_its_ratio_and_latency() -> None:
    figures = run(texts=2, rounds=1)

    assert set(figures) >= {"texts_per_second", "bare_texts_per_second", "ratio", "query_ms", "resident_mib"}
    assert all(figure > 0 for figure in figures.values())
