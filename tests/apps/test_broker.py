"""How Celery and our own client reach Redis, and what they do of it that is cut off, silent or nonsense."""

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from kombu import Queue
from kombu.exceptions import OperationalError

from bwenge.apps import broker
from bwenge.apps.broker import RUN_JOB, CeleryBroker, celery_app, queue_name
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.queues import MAINTENANCE
from bwenge.kit.jobs.relay import Message
from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("end", ["ack", "reject"])
def test_a_message_that_could_not_be_told_done_leaves_room_for_the_next(server: RedisServer, end: str) -> None:
    app = celery_app(server.url)
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
        server.stop()
        with pytest.raises(connection.connection_errors):
            getattr(message, end)()
        server.start()
        assert channel.qos.can_consume()


TLS_HANDSHAKE: Final = 0x16


def publish(url: str) -> None:
    CeleryBroker(celery_app(url), url).publish([Message(new_id(), MAINTENANCE)])


def count(url: str) -> None:
    CeleryBroker(celery_app(url), url).waiting(MAINTENANCE)


def consume(url: str) -> None:
    with celery_app(url).connection_for_read() as connection:
        connection.channel()


@contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server


@pytest.mark.parametrize("use", [publish, count, consume])
def test_a_redis_by_tls_is_sent_nothing_in_the_clear(use: Callable[[str], None]) -> None:
    first = bytearray()

    def accept_once(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            first.extend(connection.recv(1))
        server.close()

    with listener() as server:
        url = f"rediss://:hidden@127.0.0.1:{server.getsockname()[1]}/0"
        accepting = threading.Thread(target=accept_once, args=(server,))
        accepting.start()
        with suppress(Exception):
            use(url)
        accepting.join(10)
    assert list(first) == [TLS_HANDSHAKE]


def test_a_redis_that_accepts_and_is_silent_counts_as_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "ANSWER_SECONDS", 0.2)
    ended = threading.Event()

    def try_it(url: str) -> None:
        with suppress(redis.exceptions.TimeoutError, OperationalError):
            publish(url)
        ended.set()

    with listener() as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        threading.Thread(target=try_it, args=(url,), daemon=True).start()
        assert ended.wait(8)


@pytest.mark.parametrize("options", ["", "?ssl_ca_certs=/none"])
def test_the_certificate_of_a_redis_by_tls_is_verified(options: str) -> None:
    with celery_app(f"rediss://127.0.0.1:1/0{options}").connection_for_write() as connection:
        transport: Any = connection.transport
        channel: Any = transport.Channel.__new__(transport.Channel)
        channel.connection = transport
        parameters = channel._connparams()  # nothing says it openly before a connection is made
        made = parameters.pop("connection_class")
        made = made(**{name: value for name, value in parameters.items() if name != "max_connections"})
    assert (made.cert_reqs, made.check_hostname) == (ssl.CERT_REQUIRED, True)


def encoded(body: str) -> str:
    return base64.b64encode(body.encode()).decode()


def malformed(good: dict[str, Any]) -> list[str]:
    """What resembles a message of ours, each time but for one thing."""
    job = json.loads(base64.b64decode(good["body"]))
    bodies = ["?", encoded("no json"), encoded('{"a":1}'), encoded("7"), encoded(json.dumps([["no id"], *job[1:]]))]
    headers = [
        {"timelimit": "x"},
        {"timelimit": ["x", None]},
        {"task": ["x"]},
        {"task": "other"},
        {"id": 7},
        {"eta": 7},
    ]
    variants: list[Any] = [
        *(good | {"body": body} for body in bodies),
        *(good | {"headers": good["headers"] | change} for change in headers),
        good | {"headers": []},
        good | {"content-type": "application/x-python-serialize"},
        good | {"properties": good["properties"] | {"delivery_info": {}}},
        {},
        [],
        {"__type__": "?", "__value__": 1},
    ]
    return ["", "no json", "[" * 100_000, *map(json.dumps, variants)]


def test_messages_that_are_none_of_ours_are_dropped_and_the_next_one_is_delivered(server: RedisServer) -> None:
    publish(server.url)
    name = queue_name(MAINTENANCE)
    delivered: list[Any] = []
    with redis.Redis.from_url(server.url) as client, celery_app(server.url).connection_for_read() as connection:
        good: Any = client.rpop(name)
        client.lpush(name, *malformed(json.loads(good)), good)
        with connection.Consumer(Queue(name), on_message=delivered.append):
            while not delivered:
                connection.drain_events(timeout=5)
        assert [message.headers["task"] for message in delivered] == [RUN_JOB]
        assert (client.llen(name), client.hlen("unacked")) == (0, 1)
