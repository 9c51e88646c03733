"""Renders an overlay of infra/kubernetes as kustomize does, for the part of kustomize that the overlays use.

Tests render without kustomize's program, which Debian does not have. `kubectl kustomize` gives the same resources, but for the hash
behind the names of generated ones (tests/full/deployment/test_kustomize.py compares them). An overlay that uses another field is refused.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Resource = dict[str, Any]
FIELDS = {
    "apiVersion", "kind", "resources", "components", "configMapGenerator", "secretGenerator", "images", "namespace", "patches",
}  # fmt: skip
CLUSTER_WIDE = {"Namespace"}


def render(folder: Path) -> list[Resource]:
    """Return the resources of the kustomization in `folder`."""
    return _apply(folder, [])


def _apply(folder: Path, above: list[Resource]) -> list[Resource]:
    given = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(given) <= FIELDS, f"{folder} uses {set(given) - FIELDS}, which this does not render"
    found = list(above)
    for name in given.get("resources", ()):
        path = folder / name
        found += render(path) if path.is_dir() else [each for each in yaml.safe_load_all(path.read_text()) if each]
    for each in given.get("configMapGenerator", ()):
        named = [file.split("=", 1) if "=" in file else (Path(file).name, file) for file in each["files"]]
        content = {name: (folder / file).read_text() for name, file in named}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": each["name"]}, "data": content})
    for each in given.get("secretGenerator", ()):
        files = dict(file.split("=", 1) for file in each["files"])
        data = {key: base64.b64encode((folder / file).read_bytes()).decode() for key, file in files.items()}
        metadata = {"name": each["name"]}
        found.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data})
    for name in given.get("components", ()):
        found = _apply(folder / name, found)
    for patch in given.get("patches", ()):
        chosen = [each for each in found if _matches(each, patch["target"])]
        assert chosen, f"{folder}: a patch applies to nothing: {patch['target']}"
        for each in chosen:
            changed = jsonpatch.apply_patch(each, yaml.safe_load(patch["patch"]))
            found[found.index(each)] = changed
    if "namespace" in given:
        for each in found:
            _set_namespace(each, given["namespace"])
    for image in given.get("images", ()):
        for each in containers(found):
            if each["image"] == image["name"]:
                each["image"] = f"{image['newName']}:{image['newTag']}"
    return found


def _matches(resource: Resource, target: dict[str, str]) -> bool:
    return resource["kind"] == target["kind"] and target.get("name", resource["metadata"]["name"]) == resource["metadata"]["name"]


def _set_namespace(resource: Resource, namespace: str) -> None:
    if resource["kind"] not in CLUSTER_WIDE:
        resource["metadata"]["namespace"] = namespace
    for subject in resource.get("subjects", ()):
        subject["namespace"] = namespace


def pod_specs(resources: list[Resource]) -> dict[str, dict[str, Any]]:
    """Return the specification of the pods of each workload, by its name."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in resources
        if each["kind"] in ("Deployment", "StatefulSet", "Job")
    }


def containers(resources: list[Resource]) -> list[dict[str, Any]]:
    """Return every container of every pod."""
    return [
        container
        for spec in pod_specs(resources).values()
        for container in (*spec.get("initContainers", ()), *spec["containers"])
    ]
