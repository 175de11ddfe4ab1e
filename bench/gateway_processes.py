"""The processes of the gateway's bench: a small service, the gateway before it, and nginx before it."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from bwenge.gateway.downstream import GatewayHTTPProtocol
from bwenge.gateway.routing import PublicRoute
from bwenge.gateway.wiring import build
from bwenge.kit.errors import NotFound
from bwenge.kit.http.flood import FloodGuard
from bwenge.kit.http.middleware import RequestContext
from bwenge.kit.http.problems import problem_response
from bwenge.kit.telemetry import configure_logging
from tests.support.waiting import eventually

ROOT: Final = Path(__file__).parents[1]
NGINX: Final = Path("/usr/sbin/nginx")
PIECE: Final = b"a" * 65536
SMALL: Final = b'{"name": "%b"}' % (b"a" * 1012)
PATHS: Final = ("/small", "/download/{pieces}", "/upload", "/events", "/socket")

_NGINX_CONFIGURATION: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000;
  upstream service {{ server 127.0.0.1:{service_port}; keepalive 64; keepalive_requests 1000000; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""


async def service(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers as an application on uvicorn does, without an application's own cost."""
    if scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["path"] == "/upload":
        await _answer(send, str(await _count(receive)).encode())
    elif scope["path"].startswith("/download/"):
        await _pour(send, int(scope["path"].rpartition("/")[2]))
    else:
        await _answer(send, SMALL)


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _count(receive: Receive) -> int:
    received = 0
    message: Message = {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
        received += len(message.get("body", b""))
    return received


async def _pour(send: Send, pieces: int) -> None:
    headers = [(b"content-length", str(pieces * len(PIECE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(pieces):
        await send({"type": "http.response.body", "body": PIECE, "more_body": number + 1 < pieces})


async def _echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text")})


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    await problem_response(NotFound())(scope, receive, send)


def _accept_any(token: str) -> None:
    del token


def gateway(service_port: int) -> Any:
    """What the platform puts around the proxy, with limits that no load of the bench reaches."""
    routes = [
        PublicRoute(
            path,
            {"GET", "POST"},
            "service",
            needs_token=False,
            max_body_bytes=1 << 40,
            is_socket=path == "/socket",
        )
        for path in PATHS
    ]
    feature = build(
        routes,
        {"service": f"http://127.0.0.1:{service_port}"},
        check_token=_accept_any,
        key_prefix="bwk_",
        fallback=_nothing_here,
    )
    return RequestContext(FloodGuard(feature.app, per_minute=60_000_000, burst=1_000_000))


def serve(kind: str, port: int, service_port: int) -> None:
    """Run until killed, as the platform runs its services and its gateway."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    configure_logging()
    is_gateway = kind == "gateway"
    options: dict[str, Any] = {"http": GatewayHTTPProtocol, "date_header": False} if is_gateway else {}
    uvicorn.run(
        gateway(service_port) if is_gateway else service,
        port=port,
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=4096,
        ws_per_message_deflate=False,
        timeout_keep_alive=75,
        **options,
    )


@contextlib.contextmanager
def running(kind: str, folder: Path, *, service_port: int = 0) -> Iterator[tuple[int, int]]:
    """A process of `kind` (service, gateway, nginx): its port and its id."""
    port = _free_port()
    if kind == "nginx":
        configuration = folder / "nginx.conf"
        configuration.write_text(_NGINX_CONFIGURATION.format(folder=folder, port=port, service_port=service_port))
        command = [str(NGINX), "-p", str(folder), "-c", str(configuration)]
    else:
        command = [sys.executable, "-m", "bench.gateway_processes", kind, str(port), str(service_port)]
    with (folder / f"{kind}.output").open("wb") as output:
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        process = subprocess.Popen(  # noqa: S603  # our own programs, and nginx
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        eventually(lambda: process.poll() is not None or _listens(port), f"{kind} listens", seconds=30)
        if process.poll() is not None:
            raise RuntimeError((folder / f"{kind}.output").read_text(errors="replace"))
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
