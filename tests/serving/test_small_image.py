"""Serving needs none of the packages that only training needs. Neither it nor the demo needs a package that its image lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.storage.local import LocalStore
from tests.serving.versions import draw, promote_version, publish, settings_of

PROGRAM = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in NOT_NEEDED:
            raise ImportError(f"{name} is not installed here")

NOT_NEEDED = {"torch", "scipy", "prefect", "recbole", "evidently", "mamba_ssm", "causal_conv1d", "wandb", "optuna", "s5", "pandera",
              "matplotlib", "boto3", "pandas", "tasks"}
sys.meta_path.insert(0, Refuse())
from starlette.testclient import TestClient
from configs.serving.server import ServingSettings
from serving.api.app import create_app
import flows.cli.serve

with TestClient(create_app(ServingSettings.model_validate_json(sys.argv[1]))) as client:
    client.post("/v1/events", json={"events": [{"user_id": 1, "item_id": 105}]})
    answer = client.post("/v1/recommendations", json={"user_id": 1, "explain": True}).json()
loaded = sorted({name.split(".")[0] for name in sys.modules} & NOT_NEEDED)
print(json.dumps({"loaded": loaded, "source": answer["source"], "items": len(answer["items"])}))
"""


@pytest.mark.full
def test_a_process_that_cannot_import_torch_prefect_recbole_or_evidently_serves(tmp_path: Path) -> None:
    draw(tmp_path / "v1", 1)
    store = LocalStore(tmp_path / "store")
    promote_version(store, publish(store, tmp_path / "v1").version)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, settings_of(tmp_path).model_dump_json()],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"loaded": [], "source": "state", "items": 10}


IN_THE_IMAGE = """
import importlib.metadata, re, sys
from pathlib import Path

names = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"(?m)^([\\w.-]+)==", Path(sys.argv[1]).read_text())}
found = importlib.metadata.packages_distributions()
missing = {top for top, owners in found.items() if not any(re.sub(r"[-_.]+", "-", owner).lower() in names for owner in owners)}
missing -= {"configs", "flows", "infra", "models", "serving", "tasks"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in missing:
            raise ModuleNotFoundError(f"{name} is not in the image")

sys.meta_path.insert(0, Refuse())
"""
API = """
import flows.cli.main, flows.cli.serve, infra.storage.s3, serving.api.app, serving.run, serving.state
import httptools, uvloop, uvicorn
print(len(missing))
"""
API_WITH_TORCH = """
import serving.api.app, models.general
from configs.kinds import spec_of
from configs.kinds.registry import BUILT_IN
from models.kinds import recommender_class, serving_class

for spec in map(spec_of, BUILT_IN.keys() - {"recbole"}):  # its package is far larger than the image
    serving_class(spec)
    if spec.serving is None:
        recommender_class(spec)
print(len(missing))
"""
DEMO = """
import flows.cli.main, infra.storage.s3, serving.demo.server
from importlib import import_module
from pkgutil import iter_modules
from configs.kinds import spec_of
from configs.kinds.registry import BUILT_IN
from models.kinds import recommender_class
import serving.demo.views

for view in iter_modules(serving.demo.views.__path__):
    import_module(f"serving.demo.views.{view.name}")
for kind in BUILT_IN.keys() - {"recbole"}:
    recommender_class(spec_of(kind))
print(len(missing))
"""


@pytest.mark.full
@pytest.mark.parametrize(("lock", "imports"), [("serve", API), ("serve-torch", API_WITH_TORCH), ("demo", DEMO)])
def test_a_process_with_only_the_packages_of_its_image_has_what_it_imports(lock: str, imports: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_THE_IMAGE + imports, f"requirements/{lock}.txt"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50, "nothing was refused"


WITHOUT_TORCH = """
import sys

sys.modules["torch"] = None
from pathlib import Path
from configs.errors import RecsysError
from models.inference import load_inference_model

try:
    load_inference_model(Path(sys.argv[1]))
except RecsysError as error:
    print(error)
"""


def test_where_torch_is_missing_a_model_that_needs_it_to_serve_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model": "recbole", "settings": {}}))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "models.general:GeneralModel of the model recbole cannot be imported" in done.stdout and "torch" in done.stdout
