"""`bwenge healthcheck`, which a container runs every few seconds: it imports next to nothing."""

from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from bwenge.cli.failures import CommandFailed

_SECONDS = 5


def require_health(port: int) -> None:
    """Raises `CommandFailed` unless GET /health is answered well."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise CommandFailed(f"Nothing answers on port {port}: {error}.") from error
    finally:
        connection.close()
    if status != HTTPStatus.OK:
        raise CommandFailed(f"Port {port} answers {status}.")
