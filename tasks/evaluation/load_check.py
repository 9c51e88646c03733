"""Load check of a stored version: a clean process loads it and must give the same answers as the trained model.

`python -m tasks.evaluation.load_check FOLDER` is that process. Like a server, it imports neither Prefect nor training code. It
writes one JSON object to standard output; all other output goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from configs.errors import VersionCorruptError
from configs.settings import PromotionSettings
from infra.registry import ModelRef, ModelRegistry, StagedVersion
from infra.storage import Store
from models.inference import SAMPLE_FILE

if TYPE_CHECKING:
    from models.recommender import IntArray, Recommender, Requests

__all__ = ["SAMPLE_FILE", "LoadCheck", "check_loaded", "check_staged", "check_version", "sample_requests"]

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-4  # relative deviation of scores: another CPU may sum in another order
TOP = 10
SAID = 200  # characters of a process's output that are quoted in a reason
START_S = 60.0  # for starting Python and importing torch, not counted as load time


@dataclass(frozen=True)
class LoadCheck:
    """Outcome of the load check in a clean process."""

    ok: bool
    load_s: float | None
    slowest_request_s: float | None
    score_deviation: float | None  # greatest relative deviation of a top score
    finite_weights: bool
    reason: str  # empty if ok

    @staticmethod
    def failed(reason: str) -> LoadCheck:
        """Return the outcome for a version that could not be loaded."""
        return LoadCheck(False, None, None, None, False, reason)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


_ANSWER = TypeAdapter(LoadCheck)


def sample_requests(model: Recommender, requests: Requests, *, count: int, seed: int) -> list[dict[str, Any]]:
    """Draw `count` requests of the holdout, with the model's own answers, to be stored beside its weights."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(requests))[:count])
    samples = []
    for row in rows:
        request = requests.take(np.array([row]))
        scores = _scores(model, request)
        best = _best(scores)
        samples.append(
            {
                "user_id": int(request.user_ids[0]),
                "item_ids": request.item_ids.tolist(),
                "timestamps": request.timestamps.tolist(),
                "request_time": int(request.request_times[0]),
                "target": int(request.targets[0]),
                "top_items": model.catalogue[best].tolist(),
                "top_scores": scores[best].tolist(),
            }
        )
    return samples


def check_staged(store: Store, staged: StagedVersion, settings: PromotionSettings) -> LoadCheck:
    """Check a version before it is sealed."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(ModelRegistry(store).fetched(staged))
        except VersionCorruptError as error:
            return LoadCheck.failed(str(error))
        return _check_apart(folder, settings)


def check_version(store: Store, ref: ModelRef, settings: PromotionSettings) -> LoadCheck:
    """Check a sealed version."""
    files = ModelRegistry(store).manifest(ref.name, ref.version)["files"]
    return check_staged(store, StagedVersion(ref.name, ref.version, ref.prefix, files), settings)


def _check_apart(folder: Path, settings: PromotionSettings) -> LoadCheck:
    """Check the version in `folder` in a clean process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    # -P: the working folder holds the stored files, so modules must not be imported from it.
    command = [sys.executable, "-P", "-m", "tasks.evaluation.load_check", str(folder)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=START_S + settings.max_load_s,
            cwd=folder,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return LoadCheck.failed(f"a clean process did not answer within {error.timeout:g} s")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return LoadCheck.failed(f"a clean process was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}")
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:SAID]
        return LoadCheck.failed(f"a clean process failed with exit code {done.returncode}: {last}")
    try:
        found = _ANSWER.validate_json(done.stdout)
    except ValidationError:
        return LoadCheck.failed(f"a clean process printed {done.stdout[:SAID]!r} instead of the outcome of a check")
    return with_time_limits(found, settings)


def with_time_limits(check: LoadCheck, settings: PromotionSettings) -> LoadCheck:
    """Apply the time limits: return the check, with `ok` false and a reason if it took too long."""
    reason = check.reason
    if not reason and check.load_s is not None and check.load_s > settings.max_load_s:
        reason = f"loading took {check.load_s:.1f} s, more than promotion.max_load_s = {settings.max_load_s:g} s"
    if not reason and check.slowest_request_s is not None and check.slowest_request_s > settings.max_request_s:
        reason = (
            f"the slowest sample request took {check.slowest_request_s:.2f} s, more than promotion.max_request_s = "
            f"{settings.max_request_s:g} s"
        )
    return LoadCheck(not reason, check.load_s, check.slowest_request_s, check.score_deviation, check.finite_weights, reason)


def check_loaded(folder: Path) -> LoadCheck:
    """Load the model of `folder` and answer its sample requests one at a time, after one warm-up request."""
    import torch
    from safetensors.torch import load_file

    from models.loading import load_recommender

    started = time.perf_counter()
    model = load_recommender(folder)
    loaded = time.perf_counter() - started
    finite = all(bool(torch.isfinite(weight).all()) for weight in load_file(folder / "model.safetensors").values())
    samples = json.loads((folder / SAMPLE_FILE).read_text(encoding="utf-8"))
    if not samples:  # a check without requests proves nothing
        return LoadCheck(False, loaded, None, None, finite, f"{SAMPLE_FILE} holds no requests to answer")
    columns = {int(item): column for column, item in enumerate(model.catalogue)}
    slowest, deviation, reason = 0.0, 0.0, "" if finite else "the stored weights are not finite"
    for number, sample in enumerate(samples[:1] + samples):
        request = _request(sample)
        began = time.perf_counter()
        scores = _scores(model, request)
        best = _best(scores)
        if number:
            slowest = max(slowest, time.perf_counter() - began)
        expected = np.array(sample["top_scores"])
        answer = f"the loaded model answers the request of user {sample['user_id']} differently from the trained model"
        if len(best) != len(expected) or not columns.keys() >= set(sample["top_items"]):
            reason = reason or f"{answer} (with other items)"
            continue
        # Items may swap places if their scores are equal within the tolerance. Scores by place and by item must not differ.
        of_items = scores[[columns[item] for item in sample["top_items"]]]
        differences = np.abs(np.stack([scores[best], of_items]) - expected) / np.maximum(np.abs(expected), 1.0)
        difference = float(np.max(differences, initial=0.0))
        if not difference <= TOLERANCE:
            reason = reason or f"{answer} (by {difference:.2g})"
        deviation = max(deviation, difference)
    return LoadCheck(not reason, loaded, slowest, deviation, finite, reason)


def _request(sample: dict[str, Any]) -> Requests:
    from models.recommender import Requests

    items: IntArray = np.array(sample["item_ids"], dtype=np.int64)
    return Requests(
        user_ids=np.array([sample["user_id"]], dtype=np.int64),
        offsets=np.array([0, len(items)], dtype=np.int64),
        item_ids=items,
        timestamps=np.array(sample["timestamps"], dtype=np.int64),
        request_times=np.array([sample["request_time"]], dtype=np.int64),
        targets=np.array([sample["target"]], dtype=np.int64),
    )


def _scores(model: Recommender, request: Requests) -> FloatArray:
    """Scores of one request (n_items,), with -inf for items that the user has seen."""
    scores: FloatArray = model.scores(request)[0].double().cpu().numpy().copy()
    scores[np.isin(model.catalogue, request.item_ids)] = -np.inf
    return scores


def _best(scores: FloatArray) -> IntArray:
    """Columns of the top finite scores, best first."""
    return np.argsort(-scores, kind="stable")[: min(TOP, int(np.isfinite(scores).sum()))]


def _main() -> None:
    # Only the outcome goes to standard output. Library output, from Python or native code, is redirected to standard error.
    answer = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answer, "w") as out:
        out.write(json.dumps(check_loaded(Path(sys.argv[1])).to_dict()))


if __name__ == "__main__":
    _main()
