"""The port, which is taken first of all."""

from contextlib import closing

import pytest

from bwenge.apps.web_server import PortTaken, bind, listen
from tests.support.platform import free_port


def test_of_two_starts_at_once_one_serves_and_the_other_is_told() -> None:
    port = free_port()
    with closing(bind("127.0.0.1", port)) as first, closing(bind("127.0.0.1", port)) as second:
        listen(first)
        with pytest.raises(PortTaken, match=f"127.0.0.1:{port}: Address already in use"):
            listen(second)
