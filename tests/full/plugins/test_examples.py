"""The example plugins as their user has them: installed from their own folders, and used by `recsys` from another working folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Page, expect

from serving.demo.app import PAGES
from tests import synthetic
from tests.doubles.live_prefect import migrated_database
from tests.examples import EXAMPLES, PLUGINS, ROOT
from tests.full.serving.test_demo import visit
from tests.ports import reserved_port

pytestmark = pytest.mark.full
SETTINGS: dict[str, dict[str, Any]] = {
    "my_sasrec": {
        "width": 32,
        "blocks": 1,
        "max_length": 8,
        "max_epochs": 30,
        "learning_rate": 0.005,
        "batch_size": 64,
        "dropout": 0.1,
    },
    "my_itemknn": {"neighbours": 6, "shrink": 0},
}
SEARCHED = {"my_sasrec": {"dropout": {"choices": [0.1, 0.3]}}, "my_itemknn": {"neighbours": {"choices": [5, 20]}}}


@dataclass(frozen=True)
class User:
    """Somebody who has installed one of the plugins."""

    kind: str
    folder: Path
    """The working folder, which has run.yaml and the data."""
    environment: dict[str, str]

    @property
    def label(self) -> str:
        """The name of the model on pages, in small letters."""
        return self.kind.replace("_", " ")

    def recsys(self, *arguments: str) -> str:
        """Run a command, and return what it said."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=1200, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done.stdout + done.stderr

    @contextmanager
    def running(self, ready: str, *arguments: str) -> Iterator[None]:
        """Run a command that serves, until the block ends."""
        with (self.folder / f"{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *arguments], env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )
        try:
            end = time.monotonic() + 600
            while not _answers(ready):
                assert time.monotonic() < end and process.poll() is None, (self.folder / f"{arguments[0]}.log").read_text()
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(300)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(
    scope="module",
    params=["my_sasrec", *(pytest.param(kind, marks=pytest.mark.nightly) for kind in PLUGINS if kind != "my_sasrec")],
)
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> User:
    """Install the plugin, and nothing else, into a fresh folder without the network. Then retrain with it."""
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    source, target, work = folder / "source", folder / "site", folder / "work"
    shutil.copytree(EXAMPLES / PLUGINS[kind], source)  # setuptools builds in the folder of the source
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, cwd=folder)
    synthetic.write_csv(work / "data", synthetic.interactions(200, 40, 25))
    run = {
        "challenger": kind,
        "baselines": ["popularity"],
        "models": {kind: SETTINGS[kind]},
        "model_name": f"{kind.replace('_', '-')}-ranker",
        "data": {"local_path": "data/ratings.csv"},
        "store": {"url": f"file:{work}/store"},
        "validation": {"min_rows": 100},
        "evaluation": {"k_core": 5},
        "promotion": {
            "floors": {"hr_at_10": 0.01, "ndcg_at_10": 0.001},
            "baselines": ["popularity"],
            "resamples": 1100,
            "min_requests": 20,
            "min_slice_requests": 20,
        },
        "report": {"evidently": False},
        "tracking": {"mode": "off"},
    }
    (work / "run.yaml").write_text(yaml.safe_dump(run))
    # The repository stands for the installed product.
    places = {"PYTHONPATH": os.pathsep.join([str(target), str(ROOT)]), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    made = User(kind, work, os.environ | places | {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_LOGGING_LEVEL": "WARNING"})
    migrated_database(folder / "prefect" / "prefect.db")
    made.recsys("retrain", "-c", "run.yaml", "--json", "summary.json")
    return made


def summary(user: User) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((user.folder / "summary.json").read_text())
    return found


def version(user: User) -> str:
    name: str = summary(user)["version"]["version"]
    return name


def store(user: User) -> list[str]:
    return ["--set", f"store.url=file:{user.folder}/store", "--set", f"model_name={user.kind.replace('_', '-')}-ranker"]


def test_its_author_checks_it_first(user: User) -> None:
    given = [part for name, value in SETTINGS[user.kind].items() for part in ("--set", f"{name}={value}")]
    said = user.recsys("model", "check", user.kind, *given)
    assert re.search(r"^\S+: \d+ checks, 0 faults\.$", said, re.MULTILINE) and "FAULT" not in said


def test_it_is_trained_judged_and_promoted(user: User) -> None:
    found = summary(user)
    assert found["promoted"] and found["decision"]["outcome"] == "promoted", found["decision"]
    shown = user.recsys("model", "show", version(user), "-c", "run.yaml")
    assert user.kind in shown
    pages = [path.read_text(encoding="utf-8") for path in (user.folder / "store" / "models").rglob("*.html")]
    assert any(f"{user.kind.replace('_', '-')}-ranker" in page for page in pages)


def test_it_is_served_over_http_and_shown_in_the_demo(user: User, page: Page) -> None:
    api, demo = reserved_port(), reserved_port()
    address = f"http://127.0.0.1:{api}"
    with user.running(f"{address}/readyz", "serve", "--port", str(api), *store(user)):
        events = [{"user_id": 1, "item_id": item, "time": 1_100_000_000 + item} for item in (101, 102, 103, 104)]
        answers = httpx.post(f"{address}/v1/events", json={"events": events}, timeout=60).json()
        assert {each["outcome"] for each in answers["results"]} == {"applied"}
        found = httpx.post(f"{address}/v1/recommendations", json={"user_id": 1, "time": 1_100_001_000}, timeout=60).json()
        assert found["version"] == version(user) and found["source"] == "state" and len(found["items"]) == 10
        served = httpx.get(f"{address}/v1/models", timeout=60).text
        assert user.kind in served
        given = ["--set", f"port={demo}", "--set", f"api_url={address}", "--set", f"work_dir={user.folder}/demo"]
        shown = f"http://127.0.0.1:{demo}"
        with user.running(f"{shown}/_stcore/health", "demo", *store(user), *given):
            visit(page, shown, "", PAGES["recommend"].heading)
            expect(page.locator(".item")).to_have_count(10)
            expect(page.locator(".truth")).to_contain_text(re.compile(f"{user.label} had it at rank", re.IGNORECASE))
            for name in list(PAGES)[1:]:
                visit(page, shown, name, PAGES[name].heading)
            visit(page, shown, "latest", PAGES["latest"].heading)
            expect(page.locator(".chapter").nth(2)).to_contain_text(re.compile(f"{user.label} was trained in", re.IGNORECASE))
            page.get_by_role("link", name="The gate's decision").click()
            expect(page.get_by_role("heading", level=1)).to_contain_text(f"{user.kind.replace('_', '-')}-ranker")


@pytest.mark.nightly  # tests/flows/test_compare.py compares by day
def test_it_is_compared_with_other_kinds(user: User) -> None:
    run = yaml.safe_load((user.folder / "run.yaml").read_text())
    sections = {name: run[name] for name in ("data", "store", "validation", "evaluation", "tracking")}
    entries = [
        {"name": "popularity", "kind": "popularity"},
        {"name": "mine", "kind": user.kind, "settings": SETTINGS[user.kind]},
    ]
    compare = {**sections, "id": "mine", "entries": entries, "reference": "mine", "seeds": [1], "resamples": 1100}
    (user.folder / "compare.yaml").write_text(yaml.safe_dump(compare))
    user.recsys("study", "compare", "-c", "compare.yaml", "--json", "compared.json")
    found = json.loads((user.folder / "compared.json").read_text())
    assert {each["name"] for each in found["entries"]} == {"popularity", "mine"} and not found["failures"]


@pytest.mark.nightly  # tests/flows/test_search.py searches by day
def test_its_settings_are_searched(user: User) -> None:
    run = yaml.safe_load((user.folder / "run.yaml").read_text())
    search = {**run, "search": {"study": "mine", "trials": 2, "space": SEARCHED[user.kind], "enter_gate": False}}
    (user.folder / "search.yaml").write_text(yaml.safe_dump(search))
    said = user.recsys("study", "search", "-c", "search.yaml")
    assert user.kind in said and next(iter(SEARCHED[user.kind])) in said


def test_nothing_of_this_repository_has_changed(user: User) -> None:
    for name in PLUGINS.values():
        assert sorted(path.name for path in (EXAMPLES / name).iterdir() if path.name != "__pycache__") == sorted(
            ["README.md", "pyproject.toml", f"{name}.py", name.replace("plugin", "model") + ".py"]
        )
