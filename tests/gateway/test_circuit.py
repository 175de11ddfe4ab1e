"""When a service is left alone, and when it is tried again."""

import pytest

from bwenge.gateway.circuit import Circuit
from bwenge.gateway.errors import ServiceUnavailable
from tests.support.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def circuit(clock: ManualClock) -> Circuit:
    return Circuit(failures=3, open_seconds=2.0, clock=clock)


def opened(circuit: Circuit) -> Circuit:
    for _ in range(3):
        circuit.failed()
    return circuit


def test_failures_that_are_not_in_a_row_open_nothing(circuit: Circuit) -> None:
    for _ in range(5):
        circuit.failed()
        circuit.failed()
        circuit.succeeded()
    circuit.admit()
    assert not circuit.is_open


def test_an_open_circuit_says_when_it_tries_again(circuit: Circuit, clock: ManualClock) -> None:
    opened(circuit)
    clock.now += 0.5
    with pytest.raises(ServiceUnavailable) as caught:
        circuit.admit()
    assert caught.value.retry_after == 1.5


def test_one_probe_at_a_time_is_let_through(circuit: Circuit, clock: ManualClock) -> None:
    opened(circuit)
    clock.now += 2
    circuit.admit()
    with pytest.raises(ServiceUnavailable):
        circuit.admit()
    circuit.failed()
    clock.now += 1.9
    with pytest.raises(ServiceUnavailable):
        circuit.admit()
    clock.now += 0.1
    circuit.admit()


def test_a_probe_that_nobody_hears_of_again_is_followed_by_another(circuit: Circuit, clock: ManualClock) -> None:
    opened(circuit)
    for _ in range(3):
        clock.now += 2
        circuit.admit()


def test_an_answer_closes_it_and_the_count_begins_anew(circuit: Circuit, clock: ManualClock) -> None:
    opened(circuit)
    clock.now += 2
    circuit.admit()
    circuit.succeeded()
    circuit.failed()
    circuit.failed()
    circuit.admit()
    assert not circuit.is_open
