"""The image's recipe, line by line, and what it is built from."""

import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.sources import ROOT
from tests.deploy.topology import PORTS

DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
_PIN: Final = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?P<marker> ; [^\\]*)?", re.MULTILINE)


@dataclass(frozen=True)
class Instruction:
    """One instruction: `stage` counts from nought."""

    stage: int
    word: str
    rest: str


def instructions() -> list[Instruction]:
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    found: list[Instruction] = []
    stage = -1
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            stage += word == "FROM"
            found.append(Instruction(stage, word, " ".join(rest.split())))
    return found


def stages() -> dict[str, list[Instruction]]:
    """The instructions of each named stage."""
    named: dict[str, list[Instruction]] = {}
    for instruction in instructions():
        if instruction.word == "FROM" and " AS " in instruction.rest:
            named[instruction.rest.partition(" AS ")[2]] = [
                other for other in instructions() if other.stage == instruction.stage
            ]
    return named


def only(stage: str, word: str) -> str:
    [instruction] = [instruction for instruction in stages()[stage] if instruction.word == word]
    return instruction.rest


def pins(name: str) -> dict[str, tuple[str, str]]:
    """The packages of a lock with their versions and hashes, by name and marker."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.split(r"(?m)^(?=[\w.-]+==)", text)[1:]
    found: dict[str, tuple[str, str]] = {}
    for block in blocks:
        pin = _PIN.match(block)
        assert pin is not None
        key = f"{pin['name']}=={pin['version']}"
        found[pin["name"]] = (key, " ".join(re.findall(r"--hash=(\S+)", block)))
    return found


def test_every_base_is_pinned_and_the_last_stage_is_the_product() -> None:
    bases = [instruction.rest.partition(" AS ")[0] for instruction in instructions() if instruction.word == "FROM"]

    for base in bases:
        assert base in stages() or re.fullmatch(r"python:3\.11[\w.]*-slim-bookworm", base), base
    assert bases[-1] == "product"
    assert stages().keys() == {"build", "product", "development"}


def test_it_runs_as_the_fixed_user_that_owns_its_data() -> None:
    users = [instruction for instruction in instructions() if instruction.word == "USER"]

    assert {user.stage: user.rest for user in users} == {1: "10001:10001", 2: "10001:10001"}
    assert "install -d -o 10001 -g 10001 -m 0700 /data /data/blobs" in only("product", "RUN")


def test_it_starts_one_command_and_is_asked_for_its_health() -> None:
    assert only("product", "ENTRYPOINT") == '["bwenge"]'
    assert only("product", "HEALTHCHECK").endswith('CMD ["bwenge", "healthcheck"]')
    assert only("product", "STOPSIGNAL") == "SIGTERM"
    assert only("product", "EXPOSE").split() == [str(port) for port in PORTS.values()]


def test_nothing_is_fetched_but_locked_packages() -> None:
    assert [instruction for instruction in instructions() if instruction.word == "ADD"] == []
    installed = [instruction.rest for instruction in instructions() if "pip install" in instruction.rest]
    for line in installed:
        for command in re.findall(r"pip install [^&]*", line):
            assert "--no-deps" in command, command
            assert "--require-hashes -r requirements-" in command or "--no-index" in command, command
    assert not any(re.search(r"apt-get|curl|wget|https?://", instruction.rest) for instruction in instructions())


def test_no_secret_stands_in_it() -> None:
    for instruction in instructions():
        assert instruction.word != "ARG", "a build argument stays in the image's history"
        if instruction.word == "ENV":
            names = re.findall(r"(\w+)=", instruction.rest)
            assert not [name for name in names if re.search(r"SECRET|PASSWORD|TOKEN|_KEY|_URL", name)]


def test_the_product_has_no_compiler_and_writes_no_bytecode() -> None:
    assert "PYTHONDONTWRITEBYTECODE=1" in only("product", "ENV")
    assert any("compileall" in instruction.rest for instruction in stages()["build"])
    copied = [instruction.rest for instruction in stages()["product"] if instruction.word == "COPY"]
    assert copied == ["--from=build /opt/bwenge /opt/bwenge"]


def test_each_file_that_is_copied_reaches_the_build() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {
        name
        for instruction in stages()["build"]
        if instruction.word == "COPY"
        for name in instruction.rest.split()[:-1]
    }

    assert next(line for line in ignore if line and line[0] not in "#!") == "*"
    assert copied == sent
    assert all((ROOT / name).exists() for name in sent)


@pytest.mark.parametrize("part", ["requirements-runtime.lock", "requirements-build.lock"])
def test_a_part_of_the_lock_is_a_part_of_it(part: str) -> None:
    whole = pins("requirements.lock")

    found = pins(part)
    assert found
    assert {name: pin for name, pin in found.items() if whole.get(name) != pin} == {}


def test_the_parts_hold_what_is_declared_and_no_tool_of_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[^\w.-]", line)[0] for line in lines}

    runtime = pins("requirements-runtime.lock").keys()
    assert names(project["project"]["dependencies"]) <= runtime
    assert not {"mypy", "pytest", "ruff", "hypothesis", "kubernetes-validate"} & runtime
    assert names(project["dependency-groups"]["build"]) <= pins("requirements-build.lock").keys()
    assert set(project["build-system"]["requires"]) <= pins("requirements-build.lock").keys()
    assert set(project["dependency-groups"]["build"]) <= set(project["dependency-groups"]["dev"])


def test_secrets_for_compose_are_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "compose.env"
    script = ROOT / "tools" / "compose_env.sh"

    subprocess.run([script, file], check=True, capture_output=True)  # noqa: S603  # the project's own
    first = file.read_text(encoding="utf-8")
    subprocess.run([script, file], check=True, capture_output=True)  # noqa: S603  # as above

    assert file.read_text(encoding="utf-8") == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    entries = dict(line.split("=", 1) for line in first.splitlines() if not line.startswith("#"))
    assert len(entries["BWENGE_SECRET_KEY"]) >= 64
    # They stand in addresses.
    assert re.fullmatch(r"[0-9a-f]{64}", entries["POSTGRES_PASSWORD"])
    assert re.fullmatch(r"[0-9a-f]{64}", entries["REDIS_PASSWORD"])
    assert entries["POSTGRES_PASSWORD"] != entries["REDIS_PASSWORD"]
