"""The model's runtime tells its maker nothing, and leaves nothing outside of the data directory."""

import os
import subprocess
import sys
from pathlib import Path

LOAD = """
import sys
from pathlib import Path
from bwenge.providers.embedding.minilm import MiniLMEmbedder
MiniLMEmbedder.load(Path(sys.argv[1]))
"""


def test_loading_the_model_leaves_nothing_in_the_home_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", LOAD, str(tmp_path / "models")], env=environment, check=True, timeout=120
    )
    assert list(home.rglob("*")) == []
