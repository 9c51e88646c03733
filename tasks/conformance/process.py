"""A process of a check: `python -m tasks.conformance.process PART FOLDER`. A kind that crashes or hangs harms nothing but this.

`train` trains a model, checks its answers and saves it. `again` loads what was saved, and trains a second time. The folder has
`work.json`, and the outcomes are appended to `PART.jsonl` there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from configs.kinds import ModelSpec, register, spec_of
from infra.lifeline import end_at_eof
from models.evaluation import Split
from models.inference import load_inference_model
from models.kinds import recommender_class
from models.loading import load_recommender
from models.recommender import EpochReport, FitReport, Recommender
from tasks.conformance.checks import check_answers, differ, scored
from tasks.conformance.findings import Broken, Finding, Report
from tasks.conformance.invented import frozen, invented_split
from tasks.evaluation import SAMPLE_FILE, sample_requests, scores_after

__all__ = ["MODEL", "SCORES", "check_loading", "check_training"]

MODEL, SCORES = "model", "scores.npy"
NEEDED = ("config.json", "model.safetensors", "vocabulary.parquet")
SAFE = {".json", ".safetensors", ".parquet"}
SAMPLES, SEED = 5, 11


def check_training(spec: ModelSpec, given: Mapping[str, Any], folder: Path, report: Report) -> None:
    """Train a model of this kind, check it, and save it into `folder`."""
    parts = invented_split()
    models: list[Recommender] = []
    with report.check("The class is a Recommender with the name of its kind"):
        models.append(_untrained(spec, given))
    if not models:
        return
    model = models[0]
    with report.check("Its settings survive JSON"):
        stored = json.loads(json.dumps(model.settings()))
        if spec.settings.model_validate(stored) != spec.settings.model_validate(given):
            raise Broken("`settings()` returns other settings than it was made with: return `settings.model_dump(mode='json')`.")
    before = report.faults
    with report.check("It trains, and reports its epochs"):
        _fit(model, parts, folder / "checkpoints")
    if report.faults > before:
        return
    with report.check("It keeps the catalogue that it was given"):
        if not np.array_equal(np.asarray(model.catalogue), parts.catalogue):
            raise Broken("`catalogue` differs from the item ids that `fit` was given: keep them, in their order.")
    if not check_answers(model, parts.test, report):
        return
    before = report.faults
    with report.check("It is saved as safetensors, JSON and Parquet"):
        _save(spec, model, folder / MODEL)
    if report.faults > before:
        return
    with report.check("Its answers can be recorded"):
        frozen(parts.test)
        samples = sample_requests(model, parts.test, count=SAMPLES, seed=SEED)
        (folder / MODEL / SAMPLE_FILE).write_text(json.dumps(samples), encoding="utf-8")
        np.save(folder / SCORES, scored(model, parts.test), allow_pickle=False)


def check_loading(spec: ModelSpec, given: Mapping[str, Any], folder: Path, report: Report) -> None:
    """Load the saved model in this other process, train it again, and compare with what the first process recorded."""
    parts, expected = invented_split(), np.load(folder / SCORES, allow_pickle=False)
    before = report.faults
    with report.check("It is loaded in another process without unpickling, and gives the same scores"):
        with _NoUnpickling():
            model = load_recommender(folder / MODEL)
        found = differ(scored(model, parts.test), expected)
        if found:
            raise Broken(
                f"The loaded model gives other scores than the trained one (by {found:.2g}): save everything that `scores` uses."
            )
    if report.faults == before:
        with report.check("The form that serves gives the same scores"):
            served = load_inference_model(folder / MODEL)
            read = [np.arange(begin, end) for begin, end in pairwise(parts.test.offsets)]
            found = differ(scores_after(served, parts.test, parts.catalogue, read).astype(np.float64), expected)
            if found:
                raise Broken(f"The serving form gives other scores than `Recommender.scores` (by {found:.2g}).")
    with report.check("The same seed trains the same model in another process"):
        again = _untrained(spec, given)
        _fit(again, parts, folder / "checkpoints-again")
        found = differ(scored(again, parts.test), expected)
        if found:
            raise Broken(
                f"A second training with the same seed gave other scores (by {found:.2g}): seed every generator with `seed`, and do not "
                "rely on the order of sets or on hash()."
            )


def _untrained(spec: ModelSpec, given: Mapping[str, Any]) -> Recommender:
    kind = recommender_class(spec)
    if not (isinstance(kind, type) and issubclass(kind, Recommender)):
        raise Broken(f"{spec.recommender} is not a subclass of models.recommender.Recommender: derive it from that class.")
    if kind.__abstractmethods__:
        raise Broken(f"{spec.recommender} lacks {', '.join(sorted(kind.__abstractmethods__))}: define what the port asks for.")
    if getattr(kind, "name", None) != spec.kind:
        raise Broken(
            f"{spec.recommender} has the name {getattr(kind, 'name', None)!r}, but its kind is {spec.kind!r}: make them equal."
        )
    if not isinstance(getattr(kind, "sequential", None), bool):
        raise Broken(f"{spec.recommender} does not say whether it reads the order of events: set `sequential` to True or False.")
    made: Recommender = recommender_class(spec)(spec.settings.model_validate(given))
    return made


def _fit(model: Recommender, parts: Split, checkpoints: Path) -> None:
    epochs: list[EpochReport] = []
    frozen(parts.valid)
    done = model.fit(
        parts.train,
        parts.valid,
        parts.catalogue.copy(),
        seed=SEED,
        mask_seen=True,
        checkpoint_dir=checkpoints,
        on_epoch=epochs.append,
    )
    if not isinstance(done, FitReport):
        raise Broken(f"`fit` returned {type(done).__name__}: return a FitReport.")
    if not epochs or not done.epochs or not all("ndcg@10" in epoch.valid for epoch in epochs):
        raise Broken(
            "`fit` did not report an epoch with the valid metric ndcg@10, which the search and the training curve need: call `on_epoch` "
            "after each epoch and list it in the FitReport, or return `models.training.judged_once` for a model without epochs."
        )


def _save(spec: ModelSpec, model: Recommender, folder: Path) -> None:
    model.save(folder)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if missing := [name for name in NEEDED if name not in found]:
        raise Broken(f"`save` did not write {', '.join(missing)}: `models.training.write_model` writes all three files.")
    if unsafe := sorted(name for name in found if Path(name).suffix not in SAFE):
        raise Broken(
            f"`save` wrote {', '.join(unsafe)}: store weights as safetensors and tables as Parquet, which run no code when read."
        )
    items = pq.ParquetFile(folder / "vocabulary.parquet").read()
    if "item_id" not in items.column_names or not np.array_equal(items["item_id"].to_numpy(), model.catalogue):
        raise Broken(
            "vocabulary.parquet does not list the catalogue in its column item_id: write `catalogue` there, in its order."
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model") != spec.kind:
        raise Broken(f"config.json names the model {config.get('model')!r}: it must be {spec.kind!r}, or nothing can load it.")
    spec.settings.model_validate(config.get("settings", {}))


class _NoUnpickling:
    """Refuses to unpickle within its block. Python reports the import of a pickled class to audit hooks."""

    def __init__(self) -> None:
        self._watching = False
        sys.addaudithook(self._hear)

    def __enter__(self) -> None:
        self._watching = True

    def __exit__(self, *_: object) -> None:
        self._watching = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._watching and event == "pickle.find_class":
            name = ".".join(map(str, arguments))
            raise Broken(f"`load` unpickles {name}, and a pickle can run any code: store tensors, JSON and Parquet only.")


def _main() -> None:
    part, folder = sys.argv[1], Path(sys.argv[2])
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    with (folder / f"{part}.jsonl").open("a", encoding="utf-8") as out:

        def say(line: dict[str, Any]) -> None:
            out.write(json.dumps(line) + "\n")
            out.flush()

        def tell(finding: Finding) -> None:
            say(asdict(finding))

        report = Report(lambda what: say({"begins": what}), tell)
        register(work["plugins"])
        run = check_training if part == "train" else check_loading
        run(spec_of(work["kind"]), work["settings"], folder, report)
        say({"done": True})


if __name__ == "__main__":
    end_at_eof(0)
    _main()
