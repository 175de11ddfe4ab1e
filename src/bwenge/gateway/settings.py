from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How patient the gateway is with the services behind it, in seconds, and how much it holds for each.

    Attributes:
        connect_seconds: Until a service has taken a connection.
        head_seconds: From the request's last piece to the answer's head, where its route says nothing else.
        idle_seconds: Between two pieces of an answer's body.
        body_seconds: For the whole of a request's body that is read before its service is asked.
        stall_seconds: For a service to take a piece of a request's body.
        pool_idle_seconds: After that an unused connection is closed; services close theirs after 75 seconds, and a
            request that meets such an end is lost.
        max_connections: To one service at once. Tunnels are not counted: what bounds them is the number of clients.
        pool_wait_seconds: For a connection while all of them are in use.
        retry_seconds: From the first attempt to connect, no other one begins later.
        circuit_failures: So many failures in a row open a service's circuit.
        circuit_seconds: How long it stays open before one request is let through to try.
        ready_seconds: For a service to say that it is ready.
    """

    connect_seconds: float = 2.0
    head_seconds: float = 60.0
    idle_seconds: float = 120.0
    body_seconds: float = 60.0
    stall_seconds: float = 60.0
    pool_idle_seconds: float = 30.0
    max_connections: int = 512
    pool_wait_seconds: float = 2.0
    retry_seconds: float = 1.0
    circuit_failures: int = 5
    circuit_seconds: float = 2.0
    ready_seconds: float = 3.0
