"""A scripted service and a real gateway before it."""

from collections.abc import AsyncIterator

import pytest

from tests.support.gateways import RunningGateway, ScriptedService, gateway_before


@pytest.fixture
async def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
async def gateway(service: ScriptedService) -> AsyncIterator[RunningGateway]:
    async with gateway_before(service) as running:
        yield running
