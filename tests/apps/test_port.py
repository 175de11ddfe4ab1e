"""The port, which is taken first of all."""

from contextlib import closing
from pathlib import Path

import pytest

from bwenge.apps.all_in_one import PortTaken, bind, listen
from bwenge.apps.settings import Settings
from tests.support.platform import free_port


def test_of_two_starts_at_once_one_serves_and_the_other_is_told(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, port=free_port())
    with closing(bind(settings)) as first, closing(bind(settings)) as second:
        listen(first, settings)
        with pytest.raises(PortTaken, match="Address already in use"):
            listen(second, settings)
