"""Who may talk to whom in the cluster, worked out of the policies."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.deploy.kustomize import OVERLAYS, Manifest, container_of, overlay, pod_templates
from tests.deploy.topology import PORTS, SERVICES

HTTP: Final = tuple(PORTS.values())
DATABASE: Final = 5432
REDIS: Final = 6379
TLS: Final = 443


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return overlay(request.param)


@pytest.fixture
def policies(manifests: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]


@pytest.fixture
def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {name.removeprefix("bwenge-"): template for name, template in pod_templates(manifests)}


def chooses(selector: Manifest, pod: Manifest) -> bool:
    labels = pod["metadata"]["labels"]
    by_value = all(labels.get(label) == value for label, value in selector.get("matchLabels", {}).items())
    return by_value and all(
        expression["operator"] == "In" and labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", ())
    )


def numbers(rule: Manifest, pod: Manifest) -> Iterator[int]:
    """The ports of a rule; those with a name are the pod's."""
    for port in rule["ports"]:
        if port["port"] == "http":
            yield from (entry["containerPort"] for entry in container_of(pod).get("ports", ()))
        else:
            yield from range(port["port"], port.get("endPort", port["port"]) + 1)


def rules(policies: list[Manifest], pod: Manifest, direction: str) -> Iterator[Manifest]:
    for policy in policies:
        if chooses(policy["spec"]["podSelector"], pod):
            yield from policy["spec"].get(direction, ())


def allowed(policies: list[Manifest], source: Manifest, target: Manifest) -> set[int]:
    """The ports on which one pod reaches another: what both sides' policies allow."""
    sides: list[set[int]] = []
    for pod, other, direction, peers in ((source, target, "egress", "to"), (target, source, "ingress", "from")):
        sides.append(
            {
                number
                for rule in rules(policies, pod, direction)
                if any(set(peer) == {"podSelector"} and chooses(peer["podSelector"], other) for peer in rule[peers])
                for number in numbers(rule, target)
            }
        )
    return sides[0] & sides[1]


def outward(policies: list[Manifest], pod: Manifest) -> set[int]:
    """The ports on which a pod reaches addresses outside of the namespace."""
    return {
        number
        for rule in rules(policies, pod, "egress")
        if any("ipBlock" in peer for peer in rule["to"])
        for number in numbers(rule, pod)
    }


def test_nothing_is_allowed_that_is_not_named(policies: list[Manifest]) -> None:
    nothing = next(policy for policy in policies if policy["metadata"]["name"] == "bwenge-nothing")

    assert nothing["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies:
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, ()):
                assert rule.get(peers), f"{policy['metadata']['name']} allows everybody"
                assert rule.get("ports"), f"{policy['metadata']['name']} allows every port"
                assert direction.capitalize() in policy["spec"]["policyTypes"]


def test_every_selector_chooses_a_pod(policies: list[Manifest], pods: dict[str, Manifest]) -> None:
    for policy in policies:
        selectors = [policy["spec"]["podSelector"]]
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, ()):
                selectors += [peer["podSelector"] for peer in rule[peers] if set(peer) == {"podSelector"}]
        for selector in selectors:
            assert any(chooses(selector, pod) for pod in pods.values()), policy["metadata"]["name"]


def test_the_gateway_calls_services_and_chat_calls_persona_and_no_others_call(
    policies: list[Manifest], pods: dict[str, Manifest]
) -> None:
    calls = {
        (source, target): ports
        for source in pods
        for target in pods
        if (ports := allowed(policies, pods[source], pods[target]))
    }

    expected = {("gateway", name): {PORTS[name]} for name in SERVICES}
    assert calls == expected | {("chat", "persona"): {PORTS["persona"]}}


def entering(policies: list[Manifest], pod: Manifest) -> dict[str, set[int]]:
    """The namespaces from which a pod is reached, with the ports."""
    found: dict[str, set[int]] = {}
    for rule in rules(policies, pod, "ingress"):
        for peer in rule["from"]:
            if "namespaceSelector" in peer:
                labels: dict[str, Any] = peer["namespaceSelector"]["matchLabels"]
                found.setdefault(labels["kubernetes.io/metadata.name"], set()).update(numbers(rule, pod))
    return found


def test_from_outside_of_the_namespace_come_the_ingress_and_the_monitoring(
    policies: list[Manifest], pods: dict[str, Manifest]
) -> None:
    for name, pod in pods.items():
        expected: dict[str, set[int]] = {}
        if name in PORTS:
            expected["monitoring"] = {PORTS[name]}
        if name == "gateway":
            expected["ingress-nginx"] = {PORTS[name]}
        assert entering(policies, pod) == expected, name


def test_each_pod_reaches_the_stores_it_needs(policies: list[Manifest], pods: dict[str, Manifest]) -> None:
    for name, pod in pods.items():
        reached = outward(policies, pod)
        environment = {entry["name"] for entry in container_of(pod).get("env", ())}
        assert (DATABASE in reached) == (name != "gateway"), name
        assert (REDIS in reached) == ("REDIS_URL" in environment), name
        needs_internet = environment & {"AWS_ACCESS_KEY_ID", "BWENGE_LLM_API_KEY"} or name == "payments"
        assert (TLS in reached) == bool(needs_internet), name
        assert ({465, 587} <= reached) == ("BWENGE_SMTP_URL" in environment), name


def test_the_way_out_leads_to_nothing_inside(policies: list[Manifest]) -> None:
    blocks = [
        peer["ipBlock"]
        for policy in policies
        for rule in policy["spec"].get("egress", ())
        for peer in rule["to"]
        if "ipBlock" in peer and peer["ipBlock"]["cidr"] == "0.0.0.0/0"
    ]

    assert blocks
    for block in blocks:
        assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(block["except"])


def test_every_pod_asks_for_names(policies: list[Manifest]) -> None:
    [names] = [policy for policy in policies if policy["metadata"]["name"] == "bwenge-names"]

    assert names["spec"]["podSelector"] == {}
    assert [(port["protocol"], port["port"]) for port in names["spec"]["egress"][0]["ports"]] == [
        ("UDP", 53),
        ("TCP", 53),
    ]
