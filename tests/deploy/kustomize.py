"""Renders the folders below deploy/kubernetes as `kubectl kustomize` does, for the fields that they use.

A field that is not known here is refused, so that nothing is silently left out.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.architecture.sources import ROOT

KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
OVERLAYS: Final = ("staging", "production")

_FIELDS: Final = frozenset({"apiVersion", "kind", "namespace", "resources", "images", "patches"})
_MERGE_KEYS: Final = {"containers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath"}
"""Lists that a strategic merge patch merges by a key of their entries; it replaces others."""

Manifest = dict[str, Any]


class UnsupportedKustomization(ValueError):
    """The folder asks for what this loader does not do."""


def documents(path: Path) -> Iterator[Manifest]:
    yield from (document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document)


def render(folder: Path) -> list[Manifest]:
    """Every manifest of the folder, patched.

    Raises:
        UnsupportedKustomization
    """
    [kustomization] = documents(folder / "kustomization.yaml")
    if unknown := kustomization.keys() - _FIELDS:
        raise UnsupportedKustomization(f"{folder.name}: {sorted(unknown)}")
    manifests = [
        manifest
        for name in kustomization["resources"]
        for manifest in (render(folder / name) if (folder / name).is_dir() else documents(folder / name))
    ]
    for patch in kustomization.get("patches", ()):
        for change in documents(folder / patch["path"]):
            _apply(manifests, change, patch.get("target"), place=f"{folder.name}/{patch['path']}")
    for image in kustomization.get("images", ()):
        _choose_image(manifests, image)
    if "namespace" in kustomization:
        for manifest in manifests:
            if manifest["kind"] != "Namespace":
                manifest["metadata"]["namespace"] = kustomization["namespace"]
    return manifests


@cache
def overlay(name: str) -> list[Manifest]:
    """A rendered overlay, for those who only read it."""
    return render(KUBERNETES / "overlays" / name)


def _choose_image(manifests: list[Manifest], image: dict[str, str]) -> None:
    for container in containers(manifests):
        if container["image"] == image["name"]:
            container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"


def _apply(manifests: list[Manifest], change: Manifest, target: dict[str, str] | None, *, place: str) -> None:
    chosen = [manifest for manifest in manifests if _is_meant(manifest, change, target)]
    if not chosen:
        raise UnsupportedKustomization(f"{place} changes nothing")
    for manifest in chosen:
        name = manifest["metadata"]["name"]
        _merge(manifest, change)
        manifest["metadata"]["name"] = name


def _is_meant(manifest: Manifest, change: Manifest, target: dict[str, str] | None) -> bool:
    if target is None:
        return (manifest["kind"], manifest["metadata"]["name"]) == (change["kind"], change["metadata"]["name"])
    if target.keys() - {"kind", "labelSelector"}:
        raise UnsupportedKustomization(f"target {target}")
    if manifest["kind"] != target["kind"]:
        return False
    if "labelSelector" not in target:
        return True
    label, separator, value = target["labelSelector"].partition("=")
    if not separator or not label.replace(".", "").replace("/", "").replace("-", "").isalnum():
        raise UnsupportedKustomization(f"selector {target['labelSelector']}")
    return bool(manifest["metadata"].get("labels", {}).get(label) == value)


def _merge(node: Manifest, change: Manifest) -> None:
    for key, value in change.items():
        before = node.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            _merge(before, value)
        elif key in _MERGE_KEYS and isinstance(before, list):
            _merge_entries(before, value, _MERGE_KEYS[key])
        else:
            # Read anew, so that manifests which take the same patch share nothing.
            node[key] = yaml.safe_load(yaml.safe_dump(value))


def _merge_entries(entries: list[Manifest], changes: list[Manifest], key: str) -> None:
    for change in changes:
        same = next((entry for entry in entries if entry[key] == change[key]), None)
        if same is None:
            entries.append(yaml.safe_load(yaml.safe_dump(change)))
        else:
            _merge(same, change)


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """What runs, by the name of its Deployment or Job."""
    for manifest in manifests:
        if "template" in manifest.get("spec", {}):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]


def containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    for _, template in pod_templates(manifests):
        yield from template["spec"]["containers"]
        yield from template["spec"].get("initContainers", ())


def container_of(template: Manifest) -> Manifest:
    [container] = template["spec"]["containers"]
    assert isinstance(container, dict)
    return container
