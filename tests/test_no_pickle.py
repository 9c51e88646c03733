"""Nothing from a store is ever unpickled: safetensors, JSON and Parquet only."""

from __future__ import annotations

import ast
import os
import pickle
from contextlib import suppress
from pathlib import Path

import pytest

from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from models.loading import load_recommender
from tests.tasks.stored import NAME, NOW, sealed

ROOT = Path(__file__).parents[1]
LOADERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# Two processes of one run pass their work to each other through files of their own work_dir, never through the store.
BETWEEN_PROCESSES = {"tasks/training/subprocess_training.py"}


def modules() -> list[Path]:
    return [
        path for folder in ("configs", "flows", "infra", "models", "serving", "tasks") for path in (ROOT / folder).rglob("*.py")
    ]


def test_no_module_can_unpickle() -> None:
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").split(".")[0]]
            if LOADERS & set(names):
                found.append(path.relative_to(ROOT).as_posix())
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                of = ast.unparse(node.func)
                if of == "torch.load" and ast.unparse(given.get("weights_only", ast.Constant(False))) != "True":
                    found.append(f"{path.name}: torch.load without weights_only=True")
                if of in ("np.load", "numpy.load") and ast.unparse(given.get("allow_pickle", ast.Constant(False))) != "False":
                    found.append(f"{path.name}: np.load with allow_pickle")
                if of in ("pd.read_pickle", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load"):
                    found.append(f"{path.name}: {of}")
    assert set(found) <= BETWEEN_PROCESSES, found


class Planted:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("names", [["model.safetensors"], ["settings.json", "model.json", "popularity.json"], None])
def test_a_pickle_that_somebody_stored_as_a_version_is_not_run(names: list[str] | None, tmp_path: Path) -> None:
    store, mark = LocalStore(tmp_path / "store"), tmp_path / "it-ran"
    registry = ModelRegistry(store)
    ref = sealed(store, tmp_path / "model")
    folder = registry.fetch(ref, tmp_path / "copy")
    evil = pickle.dumps(Planted(mark))
    for path in folder.iterdir():
        if names is None or path.name in names:
            path.write_bytes(evil)
    for name in names or ():
        (folder / name).write_bytes(evil)
    for name in ("decision.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    staged = registry.stage(NAME, folder, NOW)  # whoever can write to the store can record the right digests
    fetched = registry.fetch(staged, tmp_path / "fetched")
    with suppress(Exception):  # any error is fine for such a file
        load_recommender(fetched)
    assert not mark.exists()
    pickle.loads(evil)
    assert mark.exists(), "the planted pickle is harmless, so this test says nothing"
