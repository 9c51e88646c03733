"""A comparison's run in a process of its own: torch's random numbers and threads are the process's, so runs that share one would
neither repeat nor be timed alone.

The parent sends what to do as a pickle on stdin and keeps the pipe open: when it ends, however it ends, the child does too.
The child answers with JSON lines: epochs, then nothing or what went wrong.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from configs import errors
from configs.comparison import CompareSettings, EntrySettings
from configs.errors import RecsysError, TrainingError
from models.recommender import EpochReport, OnEpoch
from tasks.datasets import DatasetRef

__all__ = ["run_apart"]


def run_apart(
    comparison: str, entry: EntrySettings, seed: int, dataset: DatasetRef, settings: CompareSettings, on_epoch: OnEpoch
) -> None:
    """`comparison.run_entry` in another process. Raises what it raises; a defect there is a RuntimeError with its traceback."""
    threads = settings.threads or _share_of_cores(settings)
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    environment = os.environ | limits | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-m", "tasks.comparison_process"]
    # A pickle, and not JSON: the store's credentials are masked in JSON.
    work = pickle.dumps((comparison, entry, seed, dataset, settings, threads))
    failed: dict[str, str] | None = None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it died before it had read; its exit status says how
                process.stdin.write(work)
            for line in process.stdout:
                told = json.loads(line)
                if "epoch" in told:
                    on_epoch(EpochReport(**told["epoch"]))
                else:
                    failed = told["failed"]
            status = process.wait()
        except BaseException:
            process.kill()
            raise
    if failed is not None:
        raise _error(failed)
    if status != 0:
        raise TrainingError(
            f"The process that trained {entry.name} with seed {seed} ended with status {status} and no word"
            + (": it was killed, most often for memory. Lower max_parallel or the model's batch." if status < 0 else ".")
        )


def _share_of_cores(settings: CompareSettings) -> int:
    """A core is left to Prefect; runs of one machine share the others."""
    together = 1 if settings.runner == "deployments" or settings.dask_address else settings.max_parallel
    return max(1, ((os.cpu_count() or 2) - 1) // together)


def _error(failed: dict[str, str]) -> Exception:
    kind = getattr(errors, failed["kind"], None)
    if isinstance(kind, type) and issubclass(kind, RecsysError):
        return kind(failed["message"])
    return RuntimeError(f"{failed['kind']}: {failed['message']}\n{failed['traceback']}")


def _main() -> None:
    """The child."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not for the parent to read

    def tell(**message: Any) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        comparison, entry, seed, dataset, settings, threads = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        import torch

        from infra.stores import open_store
        from tasks.comparison import run_entry

        torch.set_num_threads(threads)
        store = open_store(settings.store)
        run_entry(store, comparison, entry, seed, dataset, settings, lambda report: tell(epoch=asdict(report)))
    except Exception as error:
        tell(failed={"kind": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()})
        sys.exit(1)


def _end_with_parent() -> None:
    while os.read(0, 4096):  # not through sys.stdin, whose lock the interpreter takes when it ends
        pass
    os._exit(1)


if __name__ == "__main__":
    _main()
