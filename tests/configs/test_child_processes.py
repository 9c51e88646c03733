"""A child process gets what it needs of its parent's environment, and no secret beside."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from configs.child_processes import STORE, child_environment

ROOT = Path(__file__).parents[2]
PACKAGES = ("configs", "flows", "infra", "models", "serving", "tasks")
BUILDERS = ("infra/images/", "infra/local_stack/")  # tools for a checkout, which run programs of this machine and no model
STARTS = (
    "subprocess.run",
    "subprocess.Popen",
    "subprocess.check",
    "subprocess.call",
    "os.system",
    "os.execv(",
    "os.spawn",
    "os.popen",
)
USEFUL = {
    "PATH": "/usr/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "3",
    "CUDA_VISIBLE_DEVICES": "0",
    "LD_LIBRARY_PATH": "/usr/local/cuda",
    "PYTHONHASHSEED": "7",
    "HF_HOME": "/models",
}
SECRETS = {
    "PREFECT_API_AUTH_STRING": "me:s3cret-1",
    "PREFECT_API_URL": "http://me:s3cret-2@server/api",
    "RUNPOD_API_KEY": "rpa_s3cret-3",
    "AWS_SECRET_ACCESS_KEY": "s3cret-4",
    "WANDB_API_KEY": "s3cret-5",
    "DISCORD_WEBHOOK_URL": "https://host/s3cret-6",
    "PGPASSWORD": "s3cret-7",
    "HF_TOKEN": "s3cret-8",
    "NVIDIA_API_KEY": "s3cret-9",
    "PIP_INDEX_URL": "https://me:s3cret-10@index",
    "RECSYS_SERVING": '{"access": "s3cret-11"}',
    "PYTHON_INDEX": "https://me:s3cret-12@index",
}


def test_a_child_gets_what_it_needs_and_no_secret() -> None:
    found = child_environment(environment=USEFUL | SECRETS)
    assert found.items() >= USEFUL.items()
    assert "s3cret" not in json.dumps(found)


def test_only_a_child_that_names_a_secret_gets_it() -> None:
    of_the_store = child_environment(STORE, environment=USEFUL | SECRETS)
    assert {name for name, value in of_the_store.items() if "s3cret" in value} == {"AWS_SECRET_ACCESS_KEY"}
    own = child_environment(["PGPASSWORD"], environment=USEFUL | SECRETS)
    assert {name for name, value in own.items() if "s3cret" in value} == {"PGPASSWORD"}


def test_a_team_names_the_variables_of_its_own_kinds() -> None:
    given = USEFUL | SECRETS | {"MY_MODELS": "/data", "RECSYS_PLUGIN_VARIABLES": "MY_MODELS, HF_TOKEN"}
    found = child_environment(environment=given)
    assert found["MY_MODELS"] == "/data"
    assert {name for name, value in found.items() if "s3cret" in value} == {"HF_TOKEN"}


def test_a_child_has_the_threads_and_modules_that_it_is_given() -> None:
    found = child_environment(threads=2, paths=["/one", "", "/two"], environment=USEFUL)
    assert found["OMP_NUM_THREADS"] == found["NUMBA_NUM_THREADS"] == "2"
    assert found["PYTHONPATH"] == "/one:/two" and found["PYTHONSAFEPATH"] == "1"


def test_a_real_child_prints_an_environment_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    program = [sys.executable, "-c", "import os; print(dict(os.environ))"]
    done = subprocess.run(program, env=child_environment(), capture_output=True, text=True, check=True)
    assert "PATH" in done.stdout and "s3cret" not in done.stdout


def test_every_process_that_the_product_starts_is_given_its_environment() -> None:
    """Without `env`, a child inherits every secret of its parent."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            if place.startswith(BUILDERS):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func).startswith(STARTS)
                    and "env" not in {keyword.arg for keyword in node.keywords}
                ):
                    found.append(f"{place}:{node.lineno} {ast.unparse(node.func)}")
    assert not found, "give these children an environment (configs/child_processes.py)"
