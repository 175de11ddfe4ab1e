"""The Compose files start each process of the topology, confined, and publish the gateway alone."""

import ipaddress
import json
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator

from tests.architecture.sources import ROOT
from tests.deploy.compose_files import BASE, DEPLOY, OVERRIDES, MissingVariable, filled, load, merged, variables
from tests.deploy.known_settings import known_settings, settings_of
from tests.deploy.topology import (
    CONNECTIONS,
    EMBEDDING,
    MODEL_MEMORY,
    PARSER_MEMORY,
    PORTS,
    QUEUES,
    SERVICES,
    memory,
    options,
)

SCHEMA: Final = Path(__file__).parent / "compose_spec" / "compose-spec.json"
VALUES: Final = {
    "BWENGE_SECRET_KEY": "k" * 64,
    "POSTGRES_PASSWORD": "a1b2",
    "REDIS_PASSWORD": "c3d4",
    "BWENGE_PUBLIC_URL": "https://bwenge.example",
}
PROCESSES: Final = frozenset({*PORTS, "migrate", "worker", "beat"})
OTHERS: Final = frozenset({"db", "redis", "weaviate", "minio", "minio-bucket"})

Service = dict[str, Any]


def composed(*overrides: Path) -> dict[str, Any]:
    document = load(BASE)
    for override in overrides:
        document = merged(document, load(override))
    filled_in = filled(document, VALUES)
    assert isinstance(filled_in, dict)
    return filled_in


@pytest.fixture(params=[(), *((override,) for override in OVERRIDES)], ids=["base", "dev", "staging"])
def services(request: pytest.FixtureRequest) -> dict[str, Service]:
    found: dict[str, Service] = composed(*request.param)["services"]
    return found


@pytest.fixture
def base() -> dict[str, Service]:
    found: dict[str, Service] = composed()["services"]
    return found


def own(services: dict[str, Service]) -> dict[str, Service]:
    return {name: service for name, service in services.items() if name in PROCESSES}


@pytest.mark.parametrize("path", [BASE, *OVERRIDES], ids=lambda path: path.name)
def test_a_file_is_of_the_specification(path: Path) -> None:
    validator = Draft7Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    findings = [
        f"{'.'.join(map(str, finding.absolute_path))}: {finding.message}"
        for document in (load(path), merged(load(BASE), load(path)))
        for finding in validator.iter_errors(document)
    ]

    assert findings == []


@pytest.mark.parametrize("path", OVERRIDES, ids=lambda path: path.name)
def test_an_override_changes_what_there_is(path: Path) -> None:
    assert load(path)["services"].keys() == PROCESSES


def test_every_process_is_there_by_its_command(services: dict[str, Service]) -> None:
    assert services.keys() == PROCESSES | OTHERS
    for name, port in PORTS.items():
        assert services[name]["command"] == ["serve", name, "--host", "0.0.0.0", "--port", str(port)]  # noqa: S104  # inside its container
    assert services["migrate"]["command"] == ["migrate"]
    assert services["beat"]["command"] == ["beat"]
    assert set(options(services["worker"]["command"])["queues"].split(",")) == QUEUES


def test_every_container_is_confined(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert memory(service["mem_limit"]) > 0, name
        assert service["cpus"] > 0, name
        assert service["pids_limit"] > 0, name


def test_no_root_is_written_to(base: dict[str, Service]) -> None:
    assert [name for name, service in base.items() if service.get("read_only") is not True] == []


def test_no_process_runs_as_root(services: dict[str, Service]) -> None:
    for name, service in own(services).items():
        assert service["user"] == "10001:10001", name
    for name in ("db", "redis"):
        assert not services[name]["user"].startswith("0"), name


def test_what_is_written_is_kept_or_in_memory(base: dict[str, Service]) -> None:
    for name, service in own(base).items():
        places = {mount.split(":")[1] for mount in service.get("volumes", ())}
        places |= {mount.split(":")[0] for mount in service["tmpfs"]}
        assert {"/data", "/tmp"} <= places, name  # noqa: S108  # the containers' own


def test_two_processes_share_the_uploaded_files_and_nothing_else(base: dict[str, Service]) -> None:
    mounts = {name: service.get("volumes", []) for name, service in base.items()}
    shared = [mount for volumes in mounts.values() for mount in volumes if not mount.startswith("blobs:")]

    assert len(shared) == len(set(shared))
    assert {name for name, volumes in mounts.items() if "blobs:/data/blobs" in volumes} == {
        name for name, service in base.items() if "BWENGE_BLOB_URL" in service["environment"]
    }


def test_every_volume_and_network_is_declared_and_used() -> None:
    document = composed()
    services = document["services"].values()

    assert {mount.split(":")[0] for service in services for mount in service.get("volumes", ())} == document[
        "volumes"
    ].keys()
    assert {network for service in services for network in service["networks"]} == document["networks"].keys()


def test_only_the_gateway_publishes_a_port(base: dict[str, Service]) -> None:
    assert {name for name, service in base.items() if "ports" in service} == {"gateway"}
    assert base["gateway"]["ports"] == ["127.0.0.1:8000:8000"]


def test_developers_reach_each_service_from_their_own_machine_alone() -> None:
    [dev, _] = OVERRIDES
    services = composed(dev)["services"]

    for name in SERVICES:
        assert services[name]["ports"] == [f"127.0.0.1:{PORTS[name]}:{PORTS[name]}"]


def test_the_stores_are_reached_by_those_who_need_them(base: dict[str, Service]) -> None:
    networks = composed()["networks"]

    assert {name for name, network in networks.items() if network.get("internal")} == {"front", "stores", "vectors"}
    assert set(base["gateway"]["networks"]) == {"edge", "front"}
    for store in ("db", "redis", "minio"):
        assert base[store]["networks"] == ["stores"]
    for name, service in base.items():
        assert ("edge" in service["networks"]) == (name == "gateway"), name
        assert ("front" in service["networks"]) == (name in PORTS), name
        assert ("stores" in service["networks"]) == (name not in {"gateway", "weaviate"}), name


def test_services_believe_the_gateways_network_and_no_more(base: dict[str, Service]) -> None:
    networks = composed()["networks"]
    [front] = networks["front"]["ipam"]["config"]

    for name in SERVICES:
        assert base[name]["environment"]["BWENGE_TRUSTED_PROXIES"] == front["subnet"]
    [edge] = networks["edge"]["ipam"]["config"]
    assert not ipaddress.ip_network(front["subnet"]).overlaps(ipaddress.ip_network(edge["subnet"]))
    assert edge["gateway"] in (DEPLOY / "env.example").read_text(encoding="utf-8")


def test_what_answers_is_asked_for_its_health(services: dict[str, Service]) -> None:
    for name, port in PORTS.items():
        probe = services[name]["healthcheck"]
        assert probe["test"] == ["CMD", "bwenge", "healthcheck", "--port", str(port)]
    for name in ("db", "redis", "weaviate", "minio"):
        assert services[name]["healthcheck"]["test"], name
    for name in ("migrate", "worker", "beat"):
        assert services[name]["healthcheck"] == {"disable": True}


def test_nothing_starts_on_an_old_schema(services: dict[str, Service]) -> None:
    for name in (*SERVICES, "worker", "beat"):
        waited_for = {other: entry["condition"] for other, entry in services[name]["depends_on"].items()}
        assert waited_for == {
            "migrate": "service_completed_successfully",
            "db": "service_healthy",
            "redis": "service_healthy",
        }, name
    assert set(services["gateway"]["depends_on"]) == set(SERVICES)


def test_a_process_has_the_time_that_draining_takes(services: dict[str, Service]) -> None:
    for name, service in own(services).items():
        assert service["stop_grace_period"] == "40s", name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name


def test_memory_suffices_for_the_model_and_the_parser(services: dict[str, Service]) -> None:
    for name in EMBEDDING:
        assert memory(services[name]["mem_limit"]) >= 2 * MODEL_MEMORY, name
    worker = services["worker"]
    at_once = int(options(worker["command"])["concurrency"])
    assert memory(worker["mem_limit"]) >= max(2 * 1024**3, at_once * (MODEL_MEMORY + PARSER_MEMORY))


def test_postgresql_admits_the_pools_of_every_process(services: dict[str, Service]) -> None:
    [limit] = [int(word.partition("=")[2]) for word in services["db"]["command"] if word.startswith("max_connections")]
    serving = [services[name] for name in (*SERVICES, "worker", "beat")]
    processes = sum(service.get("deploy", {}).get("replicas", 1) for service in serving)
    at_once = int(options(services["worker"]["command"])["concurrency"])

    # Ten are left for whoever administers.
    assert (processes + at_once) * CONNECTIONS + 10 <= limit


def test_replicas_are_of_services_that_keep_nothing_between_requests(services: dict[str, Service]) -> None:
    replicated = {name for name, service in services.items() if service.get("deploy", {}).get("replicas", 1) > 1}

    assert replicated <= {"auth", "persona", "chat", "analytics", "payments"}


def test_only_what_needs_a_secret_has_it(base: dict[str, Service]) -> None:
    for name, service in own(base).items():
        environment = service["environment"]
        assert ("BWENGE_SECRET_KEY" in environment) == (name != "gateway"), name
        assert ("DATABASE_URL" in environment) == (name != "gateway"), name
        assert ("REDIS_URL" in environment) == (name not in {"gateway", "migrate"}), name
        knows_the_owner = VALUES["POSTGRES_PASSWORD"] in environment.get("DATABASE_URL", "")
        assert knows_the_owner == (name == "migrate"), name


def test_every_name_is_a_setting_and_every_value_is_taken(services: dict[str, Service]) -> None:
    for name, service in own(services).items():
        assert service["environment"].keys() - known_settings() == set(), name
        settings_of(service["environment"])


def test_secrets_have_no_default() -> None:
    must_be_set = {name for name, default in variables(BASE).items() if default is None}

    assert must_be_set == VALUES.keys()
    for name in VALUES:
        with pytest.raises(MissingVariable, match=name):
            filled(load(BASE), VALUES | {name: ""})


def test_the_example_names_every_variable_and_gives_no_value() -> None:
    lines = (DEPLOY / "env.example").read_text(encoding="utf-8").splitlines()
    entries = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert entries.keys() == variables(BASE).keys()
    assert set(entries.values()) == {""}


def test_images_are_pinned_and_ours_is_of_this_version(services: dict[str, Service]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for name, service in services.items():
        _, _, tag = service["image"].partition(":")
        assert tag not in {"", "latest"}, name
        if name in PROCESSES:
            assert service["image"] in {f"bwenge:{version}", "bwenge:development"}, name


def test_optional_servers_start_only_by_their_profiles(base: dict[str, Service]) -> None:
    assert {name: service["profiles"] for name, service in base.items() if "profiles" in service} == {
        "weaviate": ["weaviate"],
        "minio": ["minio"],
        "minio-bucket": ["minio"],
    }


def test_a_change_of_the_source_reaches_the_developers_containers() -> None:
    services = composed(OVERRIDES[0])["services"]
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")

    for name in (*PORTS, "worker", "beat"):
        [source, _] = services[name]["develop"]["watch"]
        assert source["action"] == "sync+restart"
        assert (DEPLOY / source["path"] / "__init__.py").is_file()
        assert f"chown -R 10001:10001 {source['target']}\n" in dockerfile
        assert services[name]["build"]["target"] == "development"
        assert services[name]["read_only"] is False
