"""What a worker may hold of Redis is not used up by messages of which Redis could not be told that they are done."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Queue

from bwenge.apps.broker import celery_app, queue_name
from bwenge.kit.jobs.queues import MAINTENANCE
from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.mark.parametrize("end", ["ack", "reject"])
def test_a_message_that_could_not_be_told_done_leaves_room_for_the_next(redis: RedisServer, end: str) -> None:
    app = celery_app(redis.url)
    with app.connection_for_read() as connection:
        channel: Any = connection.channel()
        channel.basic_qos(0, 1, False)
        queue = Queue(queue_name(MAINTENANCE), channel=channel)
        queue.declare()
        with connection.Producer() as producer:
            producer.publish({"job": 1}, routing_key=queue.name, declare=[queue])
        message = queue.get(accept=["json"])
        assert message is not None
        assert not channel.qos.can_consume()
        redis.stop()
        with pytest.raises(connection.connection_errors):
            getattr(message, end)()
        redis.start()
        assert channel.qos.can_consume()
