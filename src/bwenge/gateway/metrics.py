from typing import Final

from prometheus_client import Counter, Gauge, Histogram

REQUESTS: Final = Counter(
    "bwenge_gateway_requests_total",
    "Requests by service and outcome: answered, unavailable, timed_out, refused, broken, left",
    ["service", "outcome"],
)
SECONDS_TO_HEAD: Final = Histogram(
    "bwenge_gateway_seconds_to_head",
    "Time from the first attempt to connect to the head of the service's answer",
    ["service"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 150),
)
TUNNELS: Final = Gauge("bwenge_gateway_tunnels", "WebSockets that are open through the gateway", ["service"])
CIRCUIT_OPEN: Final = Gauge("bwenge_gateway_circuit_open", "1 while a service's circuit is open", ["service"])
