"""What passes through is not held: the gateway as a process of its own, on the event loop that it is deployed with."""

from pathlib import Path

from bench.gateway import GROWTH_LIMIT_MIB, memory_growth


def test_a_hundred_megabytes_each_way_leave_the_gateway_as_small_as_it_was(tmp_path: Path) -> None:
    figures = memory_growth(tmp_path, megabytes=100)
    assert figures["gateway_download_growth_mib"] < GROWTH_LIMIT_MIB
    assert figures["gateway_upload_growth_mib"] < GROWTH_LIMIT_MIB
