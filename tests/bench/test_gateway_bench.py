"""The gateway's bench at its smallest: every way is measured, and every figure is told."""

from bench import gateway
from bench.gateway_processes import NGINX


def test_each_way_to_the_service_is_measured() -> None:
    tables = gateway.run(requests=80, megabytes=1, sockets=10)
    ways = ["direct", "gateway", *(["nginx"] if NGINX.exists() else [])]
    for connections in (1, 8):
        figures = tables[f"small answers, {connections} at once"]
        assert all(figures[f"{way}_a_second"] > 0 for way in ways)
        assert ("gateway_to_nginx_ratio" in figures) == NGINX.exists()
    assert all(tables["1 MB each way"][f"{way}_upload_seconds"] > 0 for way in ways)
    assert tables["1 MB each way"]["growth_limit_mib"] == gateway.GROWTH_LIMIT_MIB
    assert all(f"{way}_kib_a_socket" in tables["10 WebSockets"] for way in ways[1:])
