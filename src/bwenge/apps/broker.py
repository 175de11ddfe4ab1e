"""Celery over Redis, which carries the ids of jobs to workers and keeps time; what it loses, the rows make up for."""

import socket
import ssl
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import redis
import structlog
from celery import Celery, signals
from kombu import Queue
from kombu.transport import redis as redis_transport
from kombu.transport import virtual

from bwenge.kit.jobs.queues import QUEUES, QueueRule
from bwenge.kit.jobs.relay import Message

_log = structlog.get_logger(__name__)

RUN_JOB: Final = "bwenge.run_job"

ANSWER_SECONDS: Final = 5
"""How long Redis may take to answer before it counts as away."""
VISIBILITY: Final = timedelta(hours=1)
"""After so long Redis gives an unfinished message to another worker. Longer jobs outlive it without harm: the second
worker finds them claimed, and does nothing."""
CHILD_START_SECONDS: Final = 60.0
KILL_AFTER: Final = timedelta(minutes=1)
"""An attempt is ended at its limit; a child that cannot even do that is killed so much later, and its lease ends."""

_KEEPALIVE: Final[Mapping[int, int]] = MappingProxyType(
    {
        getattr(socket, name): seconds
        for name, seconds in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    }
)


class _ForgettingQoS(redis_transport.QoS):
    """As kombu's, but a message of which Redis could not be told that it is done counts as done here all the same.

    Kombu leaves it among those that the worker still holds. With a few of them lost to a Redis that died, a worker
    holds as many as it may, and never asks for another one. Redis gives the message to somebody again after
    `VISIBILITY`, where it has it still, and that does nothing.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002  # the library's signature
        try:
            super().reject(delivery_tag, requeue=requeue)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


class _Channel(redis_transport.Channel):
    QoS = _ForgettingQoS

    def _brpop_read(self, **options: Any) -> Any:
        transport: Any = self.connection
        begun = transport.deliveries
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the types leave it out
        except (ValueError, RecursionError):
            if transport.deliveries != begun:
                raise
            # It is no JSON, and taken from Redis already.
            _log.warning("job_message_dropped")
            return True


class RedisTransport(redis_transport.Transport):
    """What Celery reaches Redis by. It hands on what `CeleryBroker` publishes, and drops everything else.

    Celery's main process dies of some messages that are none of ours, and leaves them to the next one.
    """

    Channel = _Channel
    deliveries = 0

    def _deliver(self, message: Any, queue: str | None) -> None:
        self.deliveries += 1
        if self.channels and is_ours(message, self.channels[0]):
            super()._deliver(message, queue)
        else:
            _log.warning("job_message_dropped", queue=queue)


def is_ours(raw: Any, channel: Any) -> bool:
    """Whether Celery can unpack the message and knows what to do."""
    try:
        message = channel.Message(raw, channel=channel, accept={"application/json"})
        (job_id,), kwargs, embedded = message.payload
        UUID(job_id)
        headers, origin = message.headers, message.delivery_info
        hard, soft = headers["timelimit"]
        texts = (headers["id"], message.delivery_tag, origin["exchange"], origin["routing_key"])
        return (
            headers["task"] == RUN_JOB
            and all(isinstance(text, str) for text in texts)
            and isinstance(hard, int)
            and all(value is None for value in (soft, headers.get("eta"), headers.get("expires")))
            and kwargs == {}
            and isinstance(embedded, dict)
        )
    except Exception:  # noqa: BLE001  # there is no end of ways in which a message may be malformed
        return False


def celery_app(redis_url: str) -> Celery:
    """An application that knows the queues and leaves logging to us."""
    app = Celery("bwenge", broker=redis_url, set_as_current=False)
    if redis_url.startswith("rediss:"):
        # Our transport's name takes the place of the scheme, so that kombu does not see that it has to use TLS.
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    app.conf.update(
        broker_transport="bwenge.apps.broker:RedisTransport",
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=ANSWER_SECONDS,
        broker_transport_options={
            "visibility_timeout": VISIBILITY.total_seconds(),
            "socket_keepalive": True,
            "socket_keepalive_options": dict(_KEEPALIVE),
            "socket_connect_timeout": ANSWER_SECONDS,
            "health_check_interval": 10,
        },
        accept_content=["json"],
        task_serializer="json",
        enable_utc=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_queues=[Queue(queue_name(name)) for name in QUEUES],
        task_create_missing_queues=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_proc_alive_timeout=CHILD_START_SECONDS,
    )
    signals.setup_logging.connect(_leave_logging_alone)
    return app


def _leave_logging_alone(**_: Any) -> None:
    """Where anybody receives this signal, Celery configures no logging of its own."""


def queue_name(queue: str) -> str:
    """What a queue of jobs is called in Redis, which others may use too."""
    return f"bwenge.{queue}"


class CeleryBroker:
    """Publishes messages for `bwenge worker`; every failure is raised at once, and not tried again here."""

    def __init__(self, app: Celery, redis_url: str, *, rules: Mapping[str, QueueRule] = QUEUES) -> None:
        self._app = app
        self._rules = rules
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS, health_check_interval=10
        )

    def publish(self, messages: Sequence[Message]) -> None:
        # Who consumes waits for Redis on purpose, and has no such limit.
        with self._app.connection_for_write(transport_options={"socket_timeout": ANSWER_SECONDS}) as connection:
            connection.ensure_connection(max_retries=1, timeout=ANSWER_SECONDS)
            for message in messages:
                limit = self._rules[message.queue].limit + KILL_AFTER
                self._app.send_task(
                    RUN_JOB,
                    args=[str(message.job_id)],
                    queue=queue_name(message.queue),
                    time_limit=int(limit.total_seconds()),
                    connection=connection,
                    retry=False,
                )

    def waiting(self, queue: str) -> int:
        return int(self._redis.llen(queue_name(queue)))

    def close(self) -> None:
        self._redis.close()
