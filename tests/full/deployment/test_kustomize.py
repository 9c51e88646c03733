"""Kustomize itself renders the overlays, to the same resources as the tests' own rendering."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local_stack.services import ROOT
from tests.infra.kubernetes.overlays import render

pytestmark = pytest.mark.full


@pytest.mark.parametrize("overlay", ["small", "production"])
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed, and Debian has no package of it")
def test_kubectl_renders_an_overlay_as_the_tests_do(overlay: str, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", str(ROOT / "infra" / "kubernetes"), str(ROOT / "infra" / "compose"), str(tmp_path)], check=True)
    folder = tmp_path / "kubernetes" / overlay
    subprocess.run(["sh", str(tmp_path / "compose" / "make-secrets"), str(folder / "secrets")], check=True)
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=600, check=True)
    unhashed = re.sub(r"(name: (?:[a-z]+-)*[a-z]+)-[bcdfghkmt2456789]{10}$", r"\1", done.stdout, flags=re.MULTILINE)
    theirs, ours = list(yaml.safe_load_all(unhashed)), render(folder)
    assert by_name(theirs) == by_name(ours)


def by_name(resources: list[Any]) -> dict[tuple[str, str], Any]:
    for secret in (each for each in resources if each["kind"] == "Secret"):
        secret["data"] = {key: base64.b64decode(value) for key, value in secret["data"].items()}  # kustomize breaks its lines
    return {(each["kind"], each["metadata"]["name"]): each for each in resources}
