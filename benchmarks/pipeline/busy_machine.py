"""Whether a busy machine changes a verdict: `python -m benchmarks.pipeline.busy_machine`.

A local store holds three versions of a small SS4Rec on MovieLens 100K: a weak champion, a better challenger, and one that does not
give its recorded answers. Each case below is decided once on the machine as it is. Then as many processes as `--load` says keep
its cores busy, while the cases are decided again in turn, in `--parallel` processes. No verdict may differ. The cases are:

- rollbacks to a sound version; to one that exceeds the limits of time, which warns; and to one that answers otherwise, which is
  refused;
- decisions of the real gate, with its default limits of time, on the better challenger, the champion itself, the challenger under
  limits that nothing meets, and the version that answers otherwise.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import hardware, write_json, write_result
from configs.errors import VersionCorruptError
from configs.settings import PromotionSettings, RetrainSettings
from infra.pages import markdown_table
from infra.registry import ModelRef, ModelRegistry, file_digests
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, write_dataset
from tasks.evaluation import VersionFolder, assemble_version, evaluate
from tasks.evaluation.load_check import SAMPLE_FILE
from tasks.gate import judge_sealed, publish, roll_back, stage_challenger
from tasks.ingest import build_features, ingest
from tasks.ingest.validation import validate
from tasks.training import Candidate, train_candidate

NAME = "movie-ranker"
NEVER_MET = {"max_load_s": 1e-9, "max_request_s": 1e-9}


@dataclass(frozen=True)
class Stored:
    """A folder with a store, and what it holds."""

    folder: Path
    promotion: PromotionSettings
    weak: ModelRef  # champion
    better: ModelRef
    broken: ModelRef

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    @property
    def hasty(self) -> PromotionSettings:
        """Limits of time that nothing meets."""
        return self.promotion.model_copy(update=NEVER_MET)


@dataclass(frozen=True)
class Case:
    """Something to decide, which returns the verdict in words."""

    kind: str  # rollback or decision
    name: str
    verdict: Callable[[Stored], str]


def main() -> None:
    """Decide every case as the machine is, and again while it is busy. Write the result, print it, and fail if a verdict differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="ratings file instead of MovieLens 100K")
    parser.add_argument("--rollbacks", type=int, default=200)
    parser.add_argument("--decisions", type=int, default=50)
    parser.add_argument("--load", type=int, default=20, help="number of processes that only keep the cores busy")
    parser.add_argument("--parallel", type=int, default=4, help="processes that decide, each with a copy of the store")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of the better challenger")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/busy_machine.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recsys-busy-") as folder:
        stored = _fill(Path(folder) / "first", given.data, given.epochs)
        began, load = time.monotonic(), os.getloadavg()[0]
        quiet = {}
        for case in CASES:
            quiet[case.name] = case.verdict(stored)
            print(f"{time.monotonic() - began:.0f} s: {case.name}: {quiet[case.name]}", flush=True)
        quiet_s = time.monotonic() - began
        copies = [_copied(stored, Path(folder) / f"copy-{number}") for number in range(given.parallel)]
        turns = [*_in_turn("rollback", given.rollbacks), *_in_turn("decision", given.decisions)]
        began = time.monotonic()
        with _busy(given.load):
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(given.parallel, mp_context=spawn) as pool:
                shares = [turns[number :: given.parallel] for number in range(given.parallel)]
                found = [each for share in pool.map(_decided, copies, shares) for each in share]
            busy_load = os.getloadavg()[0]
        busy_s = time.monotonic() - began
    rows = [_row(case, quiet[case.name], [verdict for name, verdict in found if name == case.name]) for case in CASES]
    result = {
        "data": "ml-100k",
        "file": given.data.name if given.data else None,
        "busy_processes": given.load,
        "parallel": given.parallel,
        "cases": rows,
        "quiet": {"seconds": round(quiet_s, 1), "load_1_min": round(load, 1)},
        "busy": {"seconds": round(busy_s, 1), "load_1_min": round(busy_load, 1)},
        "hardware": hardware(),
    }
    write_result(given.out, result)
    for row in rows:
        print(f"{row['name']}: {row['quiet']}; busy, the same in {row['same']} of {row['times']}")
    print(f"{quiet_s:.0f} s at a load of {load:.1f}; busy: {busy_s:.0f} s, to a load of {busy_load:.1f}")
    if any(row["others"] for row in rows):
        raise SystemExit("A busy machine changed a verdict.")


def render(result: dict[str, Any]) -> str:
    """Return the cases as a Markdown table."""
    quiet, busy = result["quiet"]["load_1_min"], result["busy"]["load_1_min"]
    rows = [[row["name"], row["quiet"].partition(":")[0], f"{row['same']} of {row['times']}"] for row in result["cases"]]
    return markdown_table(["decided", f"verdict at a load of {quiet:.0f}", f"the same at a load of {busy:.0f}"], rows)


def _row(case: Case, quiet: str, busy: list[str]) -> dict[str, Any]:
    others = [verdict for verdict in busy if verdict != quiet]
    return {
        "kind": case.kind,
        "name": case.name,
        "quiet": quiet,
        "times": len(busy),
        "same": len(busy) - len(others),
        "others": sorted(set(others)),
    }


def _in_turn(kind: str, count: int) -> list[str]:
    names = [case.name for case in CASES if case.kind == kind]
    return [names[number % len(names)] for number in range(count)]


def _decided(stored: Stored, names: list[str]) -> list[tuple[str, str]]:
    """Decide the cases, in a process of its own."""
    cases = {case.name: case for case in CASES}
    return [(name, cases[name].verdict(stored)) for name in names]


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """Keep the cores busy. The processes end with this one, in whatever way it ends."""
    program = f"import os\nwhile os.getppid() == {os.getpid()}:\n    for _ in range(10**6): pass"
    running = [subprocess.Popen([sys.executable, "-S", "-c", program]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


# What is decided


def _rollback(to: Callable[[Stored], tuple[ModelRef, PromotionSettings]], stored: Stored) -> str:
    """Roll back to a version, after another one became champion. Return what came of it, without figures."""
    registry, (target, settings) = ModelRegistry(stored.store), to(stored)
    current = registry.champion(NAME)
    assert current is not None
    if current.version == target.version:
        other = stored.better if target == stored.weak else stored.weak
        _promoted(registry, other)
    try:
        entry = roll_back(stored.store, NAME, target.version, "a benchmark", settings)
    except VersionCorruptError as error:
        return f"refused: {_without_figures(str(error))}"
    assert entry.version == target.version
    _promoted(registry, stored.weak)  # the gate's opponent
    named = [name for name in NEVER_MET if any(f"promotion.{name}" in warning for warning in entry.warnings)]
    return f"returned{', warned of ' + (', '.join(named) or 'a check that was cut off') if entry.warnings else ''}"


def _promoted(registry: ModelRegistry, ref: ModelRef) -> None:
    current = registry.champion(NAME)
    if current is None or current.version != ref.version:
        expected = current.number if current else 0
        registry.promote(NAME, ref.version, expected=expected, kind="force", reason="a benchmark", now=datetime.now(UTC))


def _gate(of: Callable[[Stored], tuple[ModelRef, PromotionSettings]], stored: Stored) -> str:
    """Judge a version. Return the outcome, with the rules that failed."""
    ref, settings = of(stored)
    decision = judge_sealed(stored.store, ref, settings)
    failed = [rule.name for rule in decision.rules if rule.verdict == "failed"]
    return f"{decision.outcome}{': ' + ', '.join(failed) if failed else ''}"


def _without_figures(said: str) -> str:
    return re.sub(r"\S*\d\S*", "#", said).partition(" The champion")[0]


CASES = [
    Case("rollback", "rollback to a sound version", partial(_rollback, lambda s: (s.better, s.promotion))),
    Case("rollback", "rollback to a version above the limits of time", partial(_rollback, lambda s: (s.better, s.hasty))),
    Case("rollback", "rollback to a version that answers otherwise", partial(_rollback, lambda s: (s.broken, s.promotion))),
    Case("decision", "gate on a better challenger", partial(_gate, lambda s: (s.better, s.promotion))),
    Case("decision", "gate on the champion itself", partial(_gate, lambda s: (s.weak, s.promotion))),
    Case("decision", "gate on a challenger above the limits of time", partial(_gate, lambda s: (s.better, s.hasty))),
    Case("decision", "gate on a version that answers otherwise", partial(_gate, lambda s: (s.broken, s.promotion))),
]


# What is stored


def _fill(folder: Path, data: Path | None, epochs: int) -> Stored:
    """Fill a store by the product's own stages, without Prefect."""
    store = LocalStore(folder / "store")
    settings = _settings(folder, "better", data, {"max_epochs": epochs})
    source = ingest(settings.data)
    validated = validate(source.tables, settings.validation, int(time.time()))
    dataset = write_dataset(
        store, source.name, validated, build_features(validated.interactions, validated.superseded), source.source_hashes
    )
    popularity = train_candidate(store, dataset, "popularity", settings)
    [better] = _versions(store, dataset, popularity, settings)
    untrained = _settings(folder, "weak", data, {"max_epochs": 1, "learning_rate": 1e-6})
    weak, broken = _versions(store, dataset, popularity, untrained, _spoil_answers)
    registry = ModelRegistry(store)
    for ref in (broken, better, weak):
        _promoted(registry, ref)
    return Stored(folder, settings.promotion, weak, better, broken)


def _settings(folder: Path, name: str, data: Path | None, ss4rec: dict[str, Any]) -> RetrainSettings:
    small = {"width": 16, "blocks": 1, "time_state": 4, "relation_state": 4, "max_length": 50, "device": "cpu"}
    return RetrainSettings.model_validate(
        {
            "model_name": NAME,
            "data": {"local_path": str(data) if data else None, "cache_dir": str(folder / "cache")},
            "validation": {"min_rows": 100},
            "store": {"url": f"file:{folder / 'store'}"},
            "work_dir": str(folder / name),
            "models": {"ss4rec": small | ss4rec, "ncf": None},
            "promotion": {"baselines": ["popularity"], "floors": {"hr_at_10": 0.001, "ndcg_at_10": 0.001}, "resamples": 1100},
            "report": {"evidently": False},
        }
    )


def _versions(
    store: LocalStore, dataset: DatasetRef, popularity: Candidate, settings: RetrainSettings, *changes: Callable[[Path], None]
) -> list[ModelRef]:
    """Train and evaluate a model. Seal it as a version, and once more after each change to its files."""
    candidates = [popularity, train_candidate(store, dataset, "ss4rec", settings)]
    measured = evaluate(store, dataset, candidates, "ss4rec", settings)
    assembled = assemble_version(Path(candidates[-1].folder), measured, candidates, store, dataset, settings)
    sealed = []
    for change in (None, *changes):
        if change is not None:
            change(Path(assembled.path))
            assembled = VersionFolder(assembled.path, file_digests(Path(assembled.path)))
        staged = stage_challenger(store, NAME, assembled)
        sealed.append(publish(store, staged, None, candidates[-1], measured.evaluation, settings))
    return sealed


def _spoil_answers(folder: Path) -> None:
    """Record answers that the model does not give."""
    samples = json.loads((folder / SAMPLE_FILE).read_text(encoding="utf-8"))
    for sample in samples:
        sample["top_scores"] = [score + 1 for score in sample["top_scores"]]
    write_json(folder / SAMPLE_FILE, samples)


def _copied(stored: Stored, folder: Path) -> Stored:
    shutil.copytree(stored.folder / "store", folder / "store")
    return Stored(folder, stored.promotion, stored.weak, stored.better, stored.broken)


if __name__ == "__main__":
    main()
