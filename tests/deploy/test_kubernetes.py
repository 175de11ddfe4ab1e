"""The rendered overlays run each process of the topology, confined, and let it reach what it needs."""

import tomllib
from typing import Any, Final

import kubernetes_validate
import pytest

from tests.architecture.sources import ROOT
from tests.deploy.known_settings import known_settings, settings_of
from tests.deploy.kustomize import (
    OVERLAYS,
    Manifest,
    UnsupportedKustomization,
    container_of,
    containers,
    overlay,
    pod_templates,
    render,
)
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

KUBERNETES_VERSION: Final = "1.37"
WORKERS: Final = ("bwenge-worker", "bwenge-worker-embedding")
SERVED: Final = tuple(f"bwenge-{name}" for name in PORTS)
SCALED: Final = {"bwenge-gateway", "bwenge-chat", "bwenge-persona", "bwenge-ingest", *WORKERS}
SECRET_VALUES: Final = {
    "BWENGE_SECRET_KEY": "k" * 64,
    "DATABASE_URL": "postgresql://bwenge:a1b2@postgresql.bwenge.example:5432/bwenge",
    "REDIS_URL": "rediss://:c3d4@redis.bwenge.example:6379/0",
    "BWENGE_LLM_PROVIDERS": "[]",
    "BWENGE_SMTP_URL": "smtps://u:p@mail.bwenge.example:465",
    "BWENGE_MAIL_FROM": "bwenge@bwenge.example",
}


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return overlay(request.param)


@pytest.fixture
def production() -> list[Manifest]:
    return overlay("production")


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    return dict(pod_templates(manifests))


def environment_of(manifests: list[Manifest], template: Manifest) -> dict[str, str]:
    """What the process sees, with examples in the places of the secrets."""
    container = container_of(template)
    maps = of_kind(manifests, "ConfigMap")
    environment: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        environment |= maps[source["configMapRef"]["name"]]["data"]
    for entry in container.get("env", ()):
        assert "value" not in entry, f"{entry['name']} stands in a ConfigMap or a Secret"
        environment[entry["name"]] = SECRET_VALUES.get(entry["name"], "example")
    return environment


def test_every_manifest_is_of_its_schema(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_no_name_is_given_twice(manifests: list[Manifest]) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]

    assert len(names) == len(set(names))


def test_every_process_runs_by_its_command(manifests: list[Manifest]) -> None:
    found = {name: container_of(template)["args"] for name, template in templates(manifests).items()}

    assert found.keys() == {*SERVED, *WORKERS, "bwenge-beat", "bwenge-migrate"}
    for name, port in PORTS.items():
        assert found[f"bwenge-{name}"] == ["serve", name, "--host", "0.0.0.0", "--port", str(port)]  # noqa: S104  # inside its pod
    assert found["bwenge-beat"] == ["beat"]
    assert found["bwenge-migrate"] == ["migrate"]


def test_each_queue_has_one_kind_of_worker(manifests: list[Manifest]) -> None:
    found = templates(manifests)
    queues = [queue for name in WORKERS for queue in options(container_of(found[name])["args"])["queues"].split(",")]

    assert sorted(queues) == sorted(QUEUES)


def test_every_pod_is_confined(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        # Addresses of Services in variables would be read as settings.
        assert pod["enableServiceLinks"] is False, name
        assert pod["terminationGracePeriodSeconds"] == 40, name
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] == context["fsGroup"] == 10001, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"}, name


def test_every_container_is_confined(manifests: list[Manifest]) -> None:
    for container in containers(manifests):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in context


def test_every_container_has_bounds(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        resources = container_of(template)["resources"]
        assert resources["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}, name
        assert resources["limits"].keys() == {"memory", "ephemeral-storage"}, name
        assert memory(resources["requests"]["memory"]) <= memory(resources["limits"]["memory"]), name
        volumes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in template["spec"]["volumes"]}
        assert volumes.keys() == {"data", "tmp"}, name
        mounts = {mount["name"]: mount["mountPath"] for mount in container_of(template)["volumeMounts"]}
        assert mounts == {"data": "/data", "tmp": "/tmp"}, name  # noqa: S108  # the containers' own


def test_memory_suffices_for_the_model_and_the_parser(manifests: list[Manifest]) -> None:
    found = templates(manifests)
    limits = {name: memory(container_of(template)["resources"]["limits"]["memory"]) for name, template in found.items()}

    for name in EMBEDDING:
        assert limits[f"bwenge-{name}"] >= 2 * MODEL_MEMORY, name
    assert limits["bwenge-worker-embedding"] >= 2 * MODEL_MEMORY
    at_once = int(options(container_of(found["bwenge-worker"])["args"])["concurrency"])
    assert limits["bwenge-worker"] >= max(2 * 1024**3, at_once * (MODEL_MEMORY + PARSER_MEMORY))


def test_what_answers_is_asked_for_its_health(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        container = container_of(template)
        paths = {
            probe: container[probe]["httpGet"]["path"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
            if probe in container
        }
        # Worker, beat and migration serve no port.
        # A gateway that waited for every service would take the others away with one.
        ready = "/health" if name == "bwenge-gateway" else "/health/ready"
        expected = {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": ready}
        assert paths == (expected if name in SERVED else {}), name
        assert ("lifecycle" in container) == (name in SERVED), name


def test_each_service_is_an_address_of_its_deployment(manifests: list[Manifest]) -> None:
    services, found = of_kind(manifests, "Service"), templates(manifests)

    assert services.keys() == set(SERVED)
    for name, port in PORTS.items():
        service, template = services[f"bwenge-{name}"], found[f"bwenge-{name}"]
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
        assert service["spec"]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]
        assert container_of(template)["ports"] == [{"name": "http", "containerPort": port}]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


def test_a_selector_chooses_its_own_pods_alone(manifests: list[Manifest]) -> None:
    found = templates(manifests)
    selecting = [*of_kind(manifests, "Service").values(), *of_kind(manifests, "PodDisruptionBudget").values()]
    selecting += of_kind(manifests, "Deployment").values()
    for manifest in selecting:
        selector = manifest["spec"]["selector"]
        labels = selector.get("matchLabels", selector)
        chosen = {name for name, template in found.items() if labels.items() <= template["metadata"]["labels"].items()}
        assert chosen == {manifest["metadata"]["name"]}, manifest["kind"]


def test_autoscalers_have_their_targets_to_themselves(manifests: list[Manifest]) -> None:
    scalers, deployments = of_kind(manifests, "HorizontalPodAutoscaler"), of_kind(manifests, "Deployment")

    assert scalers.keys() == SCALED
    for name, scaler in scalers.items():
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("Deployment", name)
        assert scaler["spec"]["minReplicas"] < scaler["spec"]["maxReplicas"]
        # A count beside the autoscaler's would undo it at every rollout.
        assert "replicas" not in deployments[name]["spec"]


def test_production_stands_without_one_pod(production: list[Manifest]) -> None:
    scalers, deployments = of_kind(production, "HorizontalPodAutoscaler"), of_kind(production, "Deployment")
    for name in SERVED:
        count = scalers[name]["spec"]["minReplicas"] if name in scalers else deployments[name]["spec"]["replicas"]
        assert count >= 2, name


def test_the_documented_connections_are_those_of_the_largest_installation(production: list[Manifest]) -> None:
    scalers, deployments = of_kind(production, "HorizontalPodAutoscaler"), of_kind(production, "Deployment")
    processes = 0
    for name, deployment in deployments.items():
        pods = scalers[name]["spec"]["maxReplicas"] if name in scalers else deployment["spec"]["replicas"]
        arguments = container_of(deployment["spec"]["template"])["args"]
        processes += 0 if name == "bwenge-gateway" else pods * (1 + int(options(arguments).get("concurrency", 0)))
    text = " ".join((ROOT / "docs" / "deployment.md").read_text(encoding="utf-8").split())

    assert f"opens at most {CONNECTIONS} connections" in text
    assert f"at its most, it is {processes * CONNECTIONS}." in text


def test_staging_has_one_pod_of_each() -> None:
    manifests = overlay("staging")

    counts = {scaler["spec"]["minReplicas"] for scaler in of_kind(manifests, "HorizontalPodAutoscaler").values()}
    counts |= {deployment["spec"].get("replicas", 1) for deployment in of_kind(manifests, "Deployment").values()}
    assert counts == {1}


def test_a_node_may_be_emptied_one_pod_at_a_time(manifests: list[Manifest]) -> None:
    budgets = of_kind(manifests, "PodDisruptionBudget")

    assert budgets.keys() == {*SERVED, *WORKERS}
    assert {budget["spec"]["maxUnavailable"] for budget in budgets.values()} == {1}


def test_a_rollout_takes_no_capacity_and_beat_is_never_two(manifests: list[Manifest]) -> None:
    for name, deployment in of_kind(manifests, "Deployment").items():
        strategy = deployment["spec"]["strategy"]
        if name == "bwenge-beat":
            assert strategy == {"type": "Recreate"}
            assert deployment["spec"]["replicas"] == 1
            continue
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}, name
        [spread] = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert spread["topologyKey"] == "kubernetes.io/hostname", name
        assert spread["labelSelector"]["matchLabels"].items() <= deployment["metadata"]["labels"].items(), name


def test_the_migration_ends_and_is_not_repeated_for_ever(manifests: list[Manifest]) -> None:
    [job] = of_kind(manifests, "Job").values()

    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert job["spec"]["backoffLimit"] <= 5
    assert job["spec"]["activeDeadlineSeconds"] > 0


def test_the_ingress_knows_the_gateway_alone(manifests: list[Manifest]) -> None:
    [ingress] = of_kind(manifests, "Ingress").values()
    annotations = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}

    backends = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert [path["path"] for path in backends] == ["/"]
    assert {path["backend"]["service"]["name"] for path in backends} == {"bwenge-gateway"}
    assert "defaultBackend" not in ingress["spec"]
    assert annotations["proxy-body-size"] == "110m"
    assert int(annotations["proxy-read-timeout"]) >= 3600
    assert int(annotations["proxy-send-timeout"]) >= 3600
    hosts = [rule["host"] for rule in ingress["spec"]["rules"]]
    assert [host for entry in ingress["spec"]["tls"] for host in entry["hosts"]] == hosts
    address = f"https://{hosts[0]}"
    maps = of_kind(manifests, "ConfigMap")
    assert {maps[name]["data"]["BWENGE_PUBLIC_URL"] for name in ("bwenge-gateway", "bwenge-services")} == {address}


def test_secrets_are_referred_to_and_never_written(manifests: list[Manifest]) -> None:
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")

    assert of_kind(manifests, "Secret") == {}
    for container in containers(manifests):
        for entry in container.get("env", ()):
            reference = entry["valueFrom"]["secretKeyRef"]
            assert f"secret generic {reference['name']}" in text
            assert f"--from-literal={reference['key']}=" in text


def test_only_what_needs_a_secret_has_it(manifests: list[Manifest]) -> None:
    for name, template in templates(manifests).items():
        environment = environment_of(manifests, template)
        is_gateway = name == "bwenge-gateway"
        assert ("BWENGE_SECRET_KEY" in environment) != is_gateway, name
        assert ("DATABASE_URL" in environment) != is_gateway, name
        assert ("REDIS_URL" in environment) == (name not in {"bwenge-gateway", "bwenge-migrate"}), name
        assert ("@" in environment.get("DATABASE_URL", "")) == (name == "bwenge-migrate"), name


def test_every_name_is_a_setting_and_every_value_is_taken(manifests: list[Manifest]) -> None:
    expected = {"bwenge": "production", "bwenge-staging": "staging"}[manifests[0]["metadata"]["namespace"]]
    for name, template in templates(manifests).items():
        environment = environment_of(manifests, template)
        assert environment.keys() - known_settings() == set(), name
        assert settings_of(environment).env == expected, name


def test_all_is_in_one_namespace_that_admits_only_confined_pods(manifests: list[Manifest]) -> None:
    [(namespace, manifest)] = of_kind(manifests, "Namespace").items()

    assert {entry["metadata"].get("namespace", namespace) for entry in manifests} == {namespace}
    assert manifest["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_all_run_the_image_of_this_version(manifests: list[Manifest]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert {container["image"] for container in containers(manifests)} == {f"bwenge:{version}"}


def test_what_goes_before_a_rollout_can_be_chosen(manifests: list[Manifest]) -> None:
    before = {
        manifest["kind"]
        for manifest in manifests
        if manifest["metadata"].get("labels", {}).get("bwenge.io/phase") == "before"
    }

    assert before == {"Namespace", "ConfigMap", "NetworkPolicy", "Job"}
    for kind in before:
        for manifest in of_kind(manifests, kind).values():
            assert manifest["metadata"]["labels"]["bwenge.io/phase"] == "before"


def test_what_the_loader_does_not_know_is_refused(tmp_path: Any) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\nconfigMapGenerator: []\n")

    with pytest.raises(UnsupportedKustomization, match="configMapGenerator"):
        render(tmp_path)


def test_names_are_those_that_processes_look_for(manifests: list[Manifest]) -> None:
    template = of_kind(manifests, "ConfigMap")["bwenge-gateway"]["data"]["BWENGE_SERVICE_URL"]
    services = of_kind(manifests, "Service")
    for name in SERVICES:
        address = template.format(service=name, port=PORTS[name]).removeprefix("http://")
        host, _, port = address.partition(":")
        assert services[host]["spec"]["ports"][0]["port"] == int(port)
