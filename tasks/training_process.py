"""Training in processes of their own: one, or replicas that torchrun starts and that train one model together.

Each process finds what to do in a file of its own, which only this user can read and which it deletes at once: settings may hold
credentials. Its standard input is one end of a pair of sockets. The first replica writes epochs to it, as JSON lines; and when the
other end closes, because the parent has ended, however it ended, or because torchrun has, the process ends too. What went wrong
and what came out are files in the folder that the parent made for them.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from configs import errors
from configs.errors import LostReplicaError, RecsysError, TrainingError
from models.distributed import Placement, joined_replicas
from models.recommender import EpochReport, OnEpoch

__all__ = ["run_apart"]

T = TypeVar("T")
LOG, RESULT = "log", "result"
OF_A_REPLICA = {"RANK", "LOCAL_RANK", "WORLD_SIZE"}  # some clusters set them for every process


def run_apart(
    work: Callable[..., T],
    *arguments: Any,
    trains: str,
    on_epoch: OnEpoch | None,
    threads: int,
    if_killed: str,
    placement: Placement = Placement(),  # noqa: B008
) -> T:
    """What `work(*arguments, on_epoch)` returns in another process, or in the first of several replicas of it.

    `work` is a function of a module; the other replicas' `on_epoch` is None, and what they return is left out. `threads` are
    those of each process. Raises what `work` raises in any of them; a defect there is a RuntimeError with its traceback. Where
    one ends without a word, a TrainingError says what it was to train (`trains`) and what helps if it was killed (`if_killed`).
    """
    with tempfile.TemporaryDirectory(prefix="recsys-training-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        # A pickle, and not JSON: credentials are masked in JSON.
        content = pickle.dumps((work, arguments, threads, placement))
        for rank in range(placement.replicas):
            _write_private(folder / f"work-{rank}", content)
        status = _follow(folder, placement.replicas, threads, on_epoch)
        said = (folder / LOG).read_text(errors="replace") if (folder / LOG).exists() else ""
        killed = _killing_status(status, said)
        failed = _first_failure(folder)
        if failed is not None and not (failed["kind"] == LostReplicaError.__name__ and killed is not None):
            raise _error(failed)
        if status != 0:
            raise TrainingError(_without_a_word(trains, placement.replicas, killed or status, said, if_killed))
        result: T = pickle.loads((folder / RESULT).read_bytes())
        return result


def _follow(folder: Path, replicas: int, threads: int, on_epoch: OnEpoch | None) -> int:
    """Start the processes and hand on their epochs until all have ended; the exit status."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    places = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONSAFEPATH": "1"}
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_REPLICA} | limits | places
    program = ["-m", "tasks.training_process", str(folder)]
    if replicas > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={replicas}"]
        program = [*launcher, f"--log-dir={folder / 'torchrun'}", *program]
    ours, theirs = socket.socketpair()
    with ours:
        with theirs, (folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *program],
                stdin=theirs.fileno(),
                stdout=2,  # what libraries print is for people
                stderr=log,  # torchrun's account of a failure is not: it is told of in one paragraph
                env=environment,
            )
        # Replicas outlive a torchrun that was killed, and would hold the socket open.
        threading.Thread(target=_close_after, args=(process, ours), daemon=True).start()
        try:
            with ours.makefile("rb") as lines:
                for line in lines:
                    if on_epoch is not None:
                        on_epoch(EpochReport(**json.loads(line)))
        except BaseException:
            process.kill()
            process.wait()
            while ours.recv(4096):  # until the last of them has ended: none may write another checkpoint
                pass
            raise
        return process.wait()


def _close_after(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    process.wait()
    with suppress(OSError):  # it is closed where all is over
        ours.shutdown(socket.SHUT_WR)


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _first_failure(folder: Path) -> dict[str, Any] | None:
    """What went wrong first. A replica that lost another one only tells of what went wrong there."""
    found = [json.loads(path.read_text()) for path in folder.glob("failed-*.json")]
    return min(found, key=lambda failed: (_is_consequence(failed), failed["time"]), default=None)


def _is_consequence(failed: dict[str, Any]) -> int:
    kind = _known(failed["kind"])
    return 1 if kind is None else 2 if kind is LostReplicaError else 0


def _known(kind: str) -> type[RecsysError] | None:
    found = getattr(errors, kind, None)
    return found if isinstance(found, type) and issubclass(found, RecsysError) else None


def _error(failed: dict[str, Any]) -> Exception:
    kind = _known(failed["kind"])
    if kind is not None:
        return kind(failed["message"])
    return RuntimeError(f"{failed['kind']}: {failed['message']}\n{failed['traceback']}")


def _killing_status(status: int, said: str) -> int | None:
    """Negative where a signal ended a process, other than the SIGTERM with which torchrun ends those that are left."""
    statuses = [status, *(int(found) for found in re.findall(r"exitcode\s*: (-?\d+)", said))]
    return next((found for found in statuses if found < 0 and found != -15), None)


def _without_a_word(trains: str, replicas: int, status: int, said: str, if_killed: str) -> str:
    who = "The process" if replicas == 1 else f"One of the {replicas} processes"
    message = f"{who} that trained {trains} ended with status {status} and no word"
    if status == -9:
        return f"{message}: it was killed, most often for memory. {if_killed}"
    last = (said.strip().splitlines() or [""])[-1]
    return f"{message}; its last one was: {last[:300]}" if last and replicas == 1 else f"{message}; see what it printed."


def _main() -> None:
    """The child."""
    folder, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    parent = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what it starts must not hold the socket
    os.dup2(1, 2)
    own = folder / f"work-{rank}"
    content = own.read_bytes()
    own.unlink()
    end_with_parent = threading.Thread(target=_end_with_parent, args=(parent, folder), daemon=True)
    end_with_parent.start()

    def tell(report: EpochReport) -> None:
        try:
            parent.sendall(json.dumps(asdict(report)).encode() + b"\n")
        except ConnectionError:  # to end here would end what removes the folder
            end_with_parent.join()

    joined = ExitStack()
    try:
        work, arguments, threads, placement = pickle.loads(content)
        import torch

        torch.set_num_threads(threads)
        if placement.replicas > 1:
            joined.enter_context(joined_replicas(placement.device))
        result = work(*arguments, tell if rank == 0 else None)
        if rank == 0:
            (folder / RESULT).write_bytes(pickle.dumps(result))
    except Exception as error:
        failed = {"kind": type(error).__name__, "message": str(error), "traceback": traceback.format_exc(), "time": time.time()}
        unfinished = folder / f"{rank}.unfinished"
        unfinished.write_text(json.dumps(failed))
        unfinished.replace(folder / f"failed-{rank}.json")
        os._exit(1)  # at once: to leave the other replicas in good order is to wait for them
    joined.close()


def _end_with_parent(parent: socket.socket, folder: Path) -> None:
    with suppress(ConnectionResetError):  # it has left epochs unread
        while parent.recv(4096):
            pass
    for _ in range(50):  # the replicas all do it, and torchrun stops those that are not done when the first one is
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.02)
    os._exit(1)


if __name__ == "__main__":
    _main()
