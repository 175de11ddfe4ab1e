"""docs/school.md as its reader meets it: every request, one after the other, on a platform of its own."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.support.platform import REPOSITORY, PlatformProcess

GUIDE: Final = REPOSITORY / "docs" / "school.md"
SECONDS: Final = 180


def script(url: str) -> str:
    """What the guide's reader types; a refusal ends it, and whatever is waited for comes in time."""
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    typed = "\n".join(blocks).replace("http://127.0.0.1:8000", url).replace("curl -s ", "curl -sS --fail-with-body ")
    assert url in typed
    return f"set -euo pipefail\n{typed}"


def test_the_guide_for_schools_can_be_followed_word_for_word(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    folder = tmp_path / "reader"
    folder.mkdir()
    with PlatformProcess(tmp_path / "data", environment={"BWENGE_RATE_LIMITS": "true"}) as platform:
        done = subprocess.run(  # noqa: S603  # the guide is our own
            ["bash", "-c", script(platform.url)],  # noqa: S607  # as the reader's own shell finds it
            cwd=folder,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    # Both answers, the pupil's and the key's, are of the uploaded text.
    assert done.stdout.count('"grounded":true') == 2
    assert '"job_id"' in done.stdout.splitlines()[-1]
    with zipfile.ZipFile(folder / "export.zip") as archive:
        assert b"keza.kimironko" in archive.read("tables/users.jsonl")
