"""Load check of a stored version: a clean process loads it and must give the same answers as the trained model.

`python -m tasks.evaluation.load_check FOLDER CPU_S REQUEST_S PLUGIN...` is that process. Like a server, it imports neither Prefect nor
training code. It writes one JSON object to standard output; all other output goes to standard error.

What else the machine does must not change the outcome. Therefore the process runs on one thread and all its times are CPU times.
A version that loads and answers correctly passes however slow it is: whether it is too slow is for the gate to say. If the machine
does not let the check come to its end, the check is `cut_off`, which says nothing about the version.
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import signal
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from configs.child_processes import child_environment
from configs.errors import VersionCorruptError
from configs.kinds import place_of, plugins_in_use, register
from configs.settings import PromotionSettings
from infra.lifeline import end_at_eof, lifeline
from infra.registry import ModelRef, ModelRegistry, StagedVersion
from infra.storage import Store
from models.inference import SAMPLE_FILE
from models.kinds import kind_in

if TYPE_CHECKING:
    from models.recommender import IntArray, Recommender, Requests

__all__ = [
    "SAMPLE_FILE",
    "LoadCheck",
    "check_folder",
    "check_loaded",
    "check_staged",
    "check_version",
    "repeated",
    "sample_requests",
]

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-4  # relative deviation of scores: another CPU may sum in another order
TOP = 10
SAID = 200  # characters of a process's output that are quoted in a reason
START_S = 60.0  # CPU time for starting Python and importing torch, not counted as load time
GENEROUS = 5  # a version may take so many times promotion.max_load_s of CPU time before its check is ended
WAIT_S, PATIENCE = 600.0, 2  # seconds to wait for the process: so many, and so many for each second of CPU time that it may take
ATTEMPTS = 2  # if the machine cuts the check off
FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}  # the system's memory ran out, or it shuts down
OF_THE_MACHINE = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EIO}


@dataclass(frozen=True)
class LoadCheck:
    """Outcome of the load check in a clean process. Times are CPU times on one thread."""

    ok: bool  # it loads and answers as trained, however long that takes
    load_s: float | None
    request_s: float | None  # median over the sample requests
    score_deviation: float | None  # greatest relative deviation of a top score
    finite_weights: bool | None  # None if it is unknown
    reason: str  # empty if ok
    cut_off: bool = False  # the machine ended the check before it was done, so nothing is known about the version

    @staticmethod
    def failed(reason: str) -> LoadCheck:
        """Return the outcome for a version that could not be loaded."""
        return LoadCheck(False, None, None, None, False, reason)

    @staticmethod
    def interrupted(reason: str) -> LoadCheck:
        """Return the outcome for a check that the machine cut off."""
        return LoadCheck(False, None, None, None, None, reason, cut_off=True)

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


def check_staged(store: Store, staged: StagedVersion, settings: PromotionSettings, *, serving: bool = False) -> LoadCheck:
    """Check a version before it is sealed: the judged weights, or with `serving` those that are served."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(ModelRegistry(store).fetched(staged, serving=serving))
        except VersionCorruptError as error:
            return LoadCheck.failed(str(error))
        found = check_folder(folder, settings)
        for _ in range(ATTEMPTS - 1):
            if found.cut_off:
                found = check_folder(folder, settings)
        return found


def check_version(store: Store, ref: ModelRef, settings: PromotionSettings) -> LoadCheck:
    """Check what is served of a sealed version."""
    files = ModelRegistry(store).manifest(ref.name, ref.version)["files"]
    return check_staged(store, StagedVersion(ref.name, ref.version, ref.prefix, files), settings, serving=True)


def check_folder(folder: Path, settings: PromotionSettings) -> LoadCheck:
    """Check the version in `folder` in a clean process."""
    plugins, paths = _plugins_and_paths(folder)
    most_s = math.ceil(START_S + GENEROUS * settings.max_load_s)
    # -P: the working folder holds the stored files, so modules must not be imported from it.
    program = [sys.executable, "-P", "-m", "tasks.evaluation.load_check"]
    try:
        with lifeline() as held:
            done = subprocess.run(
                [*program, str(folder), str(most_s), str(settings.max_request_s), *plugins],
                env=child_environment(threads=1, paths=paths),
                stdin=held,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=WAIT_S + PATIENCE * most_s,
                cwd=folder,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        return LoadCheck.interrupted(f"its process did not end within {error.timeout:g} s, so the machine was too busy")
    if done.returncode < 0:
        return _killed_by(signal.Signals(-done.returncode), most_s)
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:SAID]
        return LoadCheck.failed(f"a clean process failed with exit code {done.returncode}: {last}")
    try:
        return _ANSWER.validate_json(done.stdout)
    except ValidationError:
        return LoadCheck.failed(f"a clean process printed {done.stdout[:SAID]!r} instead of the outcome of a check")


def _plugins_and_paths(folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the plugins that the clean process registers, and where it finds modules.

    For a kind that is built in, that is this project only. For the kind of a plugin, it is what this process finds.
    """
    own = str(Path(__file__).parents[2])
    try:
        plugin = place_of(kind_in(folder).kind)
    except VersionCorruptError:
        plugin = None  # the clean process says what is wrong
    if plugin is None:
        return (), [own]
    return plugins_in_use(), [own, *(path for path in sys.path if path and path != own)]


def _killed_by(ended: signal.Signals, most_s: int) -> LoadCheck:
    """Return the outcome for a process that a signal ended."""
    if ended == signal.SIGXCPU:
        return LoadCheck.failed(
            f"a clean process had not loaded it and answered after {most_s} s of CPU time ({GENEROUS} times promotion.max_load_s, "
            f"and {START_S:g} s)"
        )
    if ended in FROM_OUTSIDE:
        guess = " (out of memory?)" if ended == signal.SIGKILL else ""
        return LoadCheck.interrupted(f"its process was killed by {ended.name}{guess}")
    return LoadCheck.failed(f"a clean process was killed by {ended.name}")


def check_loaded(folder: Path, patience_s: float = math.inf) -> LoadCheck:
    """Load the model of `folder` and answer its sample requests one at a time, after one warm-up request.

    A request that takes more than `patience_s` is answered once more, and the shorter time counts.
    """
    import torch
    from safetensors.torch import load_file

    from models.loading import load_recommender

    started = _cpu_s()
    model = load_recommender(folder)
    loaded = _cpu_s() - started
    finite = all(bool(torch.isfinite(weight).all()) for weight in load_file(folder / "model.safetensors").values())
    samples = json.loads((folder / SAMPLE_FILE).read_text(encoding="utf-8"))
    if not samples:  # a check without requests proves nothing
        return LoadCheck(False, loaded, None, None, finite, f"{SAMPLE_FILE} holds no requests to answer")
    _scores(model, _request(samples[0]))
    found = repeated(model, samples, patience_s)
    reason = found.reason if finite else "the stored weights are not finite"
    return LoadCheck(not reason, loaded, found.request_s, found.deviation, finite, reason)


@dataclass(frozen=True)
class Repeated:
    """How a loaded model answers requests that the trained model has answered."""

    deviation: float  # greatest relative deviation of a top score
    request_s: float  # median CPU time of a request
    reason: str  # how the first different answer differs; empty if none does


def repeated(model: Recommender, samples: list[dict[str, Any]], patience_s: float = math.inf) -> Repeated:
    """Answer sample requests, and compare the answers with those that are stored with them.

    Args:
        model: The loaded model.
        samples: At least one request with its answer, from `sample_requests`.
        patience_s: A request that takes more seconds is answered once more, and the shorter time counts.
    """
    columns = {int(item): column for column, item in enumerate(model.catalogue)}
    deviation, reason = 0.0, ""
    seconds = []
    for sample in samples:
        request = _request(sample)
        taken, scores, best = _answered(model, request)
        if taken > patience_s:
            taken = min(taken, _answered(model, request)[0])
        seconds.append(taken)
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
    return Repeated(deviation, statistics.median(seconds), reason)


def _answered(model: Recommender, request: Requests) -> tuple[float, FloatArray, IntArray]:
    """Answer the request. Return the CPU time that it took, the scores, and the columns of the best items."""
    began = _cpu_s()
    scores = _scores(model, request)
    best = _best(scores)
    return _cpu_s() - began, scores, best


def _cpu_s() -> float:
    """Return the CPU time of this process. Under RLIMIT_CPU, Linux updates `time.process_time` only at each tick of its clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


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
    folder, most_s, patience_s, *plugins = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]
    most_here = resource.getrlimit(resource.RLIMIT_CPU)[1]
    try:
        if most_here == resource.RLIM_INFINITY or most_here > most_s:
            resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s + 1))
            register(plugins)
            found = check_loaded(folder, patience_s)
        else:
            found = LoadCheck.interrupted(f"this machine allows its process less than {most_s} s of CPU time (ulimit -t)")
    except MemoryError:
        found = LoadCheck.interrupted("its process got no more memory")
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        found = LoadCheck.interrupted(f"its process met a limit of the machine ({error})")
    with os.fdopen(answer, "w") as out:
        out.write(json.dumps(found.to_dict()))


if __name__ == "__main__":
    end_at_eof(0)
    _main()
