"""Train in separate processes: either one, or several replicas that torchrun starts and that train one model together.

Each process reads its work from its own file, which only this user can read. It deletes the file at once, because settings may
hold credentials. Its standard input is one end of a socket pair, to which the first replica writes epochs as JSON lines. The
other end closes when the parent or torchrun ends, in whatever way; the process then ends too. Errors and the result are written
to files in a folder that the parent creates. A small program of its own removes the folder, also if the parent is killed.

Each process leads a session of its own, so that what it has started ends with it. Ctrl+C at a terminal does not reach other
sessions, so the small program, which stays in the parent's, passes it on.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from configs import errors
from configs.child_processes import STORE, child_environment
from configs.errors import LostReplicaError, RecsysError, TrainingError
from configs.settings import StoreSettings
from models.recommender import EpochReport, OnEpoch, TeacherEpoch
from models.training import Placement, joined_replicas

__all__ = ["run_apart"]

T = TypeVar("T")
LOG, RESULT = "log", "result"
REMOVE = """
import os, shutil, signal, sys, time
folder, writer = sys.argv[1], 0
def tell(number, frame=None):
    try:
        if writer:
            os.killpg(writer, number)
    except OSError:
        pass
if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, tell)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
writer = int(sys.stdin.readline() or 0)
sys.stdin.read()
end = time.monotonic() + 60
while writer:
    try:
        os.kill(writer, 0)
    except OSError:
        break
    if time.monotonic() > end:
        tell(signal.SIGKILL)
        break
    time.sleep(0.1)
while os.path.exists(folder) and time.monotonic() < end + 10:
    shutil.rmtree(folder, ignore_errors=True)
    time.sleep(0.02)
"""
"""A program that removes a folder once its standard input is closed and the process whose id it read from there has ended.

It passes SIGINT on to the group of that process, and kills the group if it has not ended a minute after the input was closed.
"""
END_S = 60.0  # longest wait for replicas to end after torchrun


def run_apart(
    work: Callable[..., T],
    *arguments: Any,
    trains: str,
    on_epoch: OnEpoch | None,
    threads: int,
    if_killed: str,
    placement: Placement = Placement(),  # noqa: B008
    silence_s: float | None = None,
) -> T:
    """Call `work(*arguments, on_epoch)` in another process, or in several replicas of it, and return the first one's result.

    The other replicas get None as `on_epoch`, and their results are discarded.

    Args:
        work: A module-level function.
        arguments: Its arguments, which must be picklable. Only if one of them has the settings of a store on S3 (`store`), the process
            finds this one's credentials for it in its environment.
        trains: What is trained, for the error message if a process ends without reporting an error.
        on_epoch: Called in this process with each epoch of the first replica.
        threads: Number of threads of each process.
        if_killed: Remedy for the error message if a process was killed.
        placement: Number and device of the replicas.
        silence_s: Seconds without an epoch after which the processes are ended, or None to wait for ever.

    Raises:
        RecsysError: A product error that `work` raised in any process, with its own class.
        TrainingError: A process ended without reporting an error, or reported no epoch for `silence_s`.
        RuntimeError: `work` raised any other exception; the message contains the traceback.
    """
    environment = child_environment(_variables_of_store(arguments), threads=threads)
    with _temporary_folder() as (folder, writes):
        # A pickle instead of JSON, because credentials are masked in JSON.
        content = pickle.dumps((work, arguments, threads, placement))
        for rank in range(placement.replicas):
            _write_private(folder / f"work-{rank}", content)
        try:
            status = _follow(folder, placement.replicas, environment, on_epoch, writes, silence_s)
        except TimeoutError as error:
            raise TrainingError(
                f"The training of {trains} reported no epoch for {silence_s:g} s (models.plugin_silence_s), so its process was ended. "
                "If it does not hang, raise that setting, or let the model report epochs more often."
            ) from error
        said = (folder / LOG).read_text(errors="replace") if (folder / LOG).exists() else ""
        killed = _killing_status(status, said)
        failed = _first_failure(folder)
        if failed is not None and not (failed["kind"] == LostReplicaError.__name__ and killed is not None):
            raise _error(failed)
        if status != 0 or not (folder / RESULT).exists():
            raise TrainingError(_without_a_word(trains, placement.replicas, killed or status, said, if_killed))
        result: T = pickle.loads((folder / RESULT).read_bytes())
        return result


@contextmanager
def _temporary_folder() -> Iterator[tuple[Path, Callable[[int], None]]]:
    """Yield a new folder, and a function that takes the id of the process that writes to it.

    The folder is removed in the end, also if this process is killed within the block, after the process that writes to it has ended.
    """
    folder = Path(tempfile.mkdtemp(prefix="recsys-training-"))
    program = [sys.executable, "-IS", "-c", REMOVE, str(folder)]
    nothing = subprocess.DEVNULL  # a pipe that this process writes to must not stay open until the folder is removed
    try:
        with subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, bufsize=0, env=child_environment()
        ) as remover:
            assert remover.stdin is not None
            told = remover.stdin

            def writes(process: int) -> None:
                with suppress(BrokenPipeError):  # somebody killed the remover
                    told.write(b"%d\n" % process)

            yield folder, writes
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # if the remover could not start, or was killed


def _variables_of_store(arguments: Iterable[Any]) -> tuple[str, ...]:
    """Return the names of the variables that the store in the arguments needs."""
    stores = [store for each in arguments if isinstance(store := getattr(each, "store", None), StoreSettings)]
    return STORE if any(isinstance(store.place, tuple) for store in stores) else ()


def _follow(
    folder: Path,
    replicas: int,
    environment: Mapping[str, str],
    on_epoch: OnEpoch | None,
    writes: Callable[[int], None],
    silence_s: float | None,
) -> int:
    """Start the processes, pass on their epochs until all have ended, and return the exit status.

    Raises TimeoutError if no epoch arrives for `silence_s`.
    """
    program = ["-m", "tasks.training.subprocess_training", str(folder)]
    if replicas > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={replicas}"]
        program = [*launcher, f"--log-dir={folder / 'torchrun'}", *program]
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(silence_s)
        with theirs, (folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *program],
                stdin=theirs.fileno(),
                stdout=2,  # library output stays visible to the user
                stderr=log,  # torchrun's failure report is summarised in one message instead
                env=dict(environment),
                start_new_session=True,
            )
        writes(process.pid)
        ended = threading.Event()
        threading.Thread(target=_end_the_rest, args=(process, ours, ended), daemon=True).start()
        try:
            with ours.makefile("rb") as lines:
                for line in lines:
                    if on_epoch is not None:
                        on_epoch(_report_of(json.loads(line)))
        except BaseException:
            if not ended.is_set():
                _kill_group(process.pid)
            ours.settimeout(None)
            while ours.recv(4096):  # wait until the last process has ended, so that none writes another checkpoint
                pass
            ended.wait()
            raise
        ended.wait()
        return process.returncode


def _report_of(fields: dict[str, Any]) -> EpochReport:
    return TeacherEpoch(**fields) if "teacher" in fields else EpochReport(**fields)


def _end_the_rest(process: subprocess.Popen[bytes], ours: socket.socket, ended: threading.Event) -> None:
    """Wait for the process, and end what it leaves behind. Set `ended` then. Close the socket, which others may keep open.

    A killed torchrun leaves its replicas behind, and each of them ends when it sees the closed socket.
    """
    process.wait()
    _kill_group(process.pid)
    ended.set()
    with suppress(OSError):  # already closed if everything has ended
        ours.shutdown(socket.SHUT_WR)
        end = time.monotonic() + END_S
        while ours.fileno() >= 0 and time.monotonic() < end:
            time.sleep(0.1)
        ours.shutdown(socket.SHUT_RD)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # all of it has ended
        os.killpg(group, signal.SIGKILL)


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _first_failure(folder: Path) -> dict[str, Any] | None:
    """Return the first failure, or None. A replica that lost another one reports only a consequence, so it comes last."""
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
    """Return the negative status of a process killed by a signal, or None.

    SIGTERM (-15) is ignored, because torchrun ends the remaining processes with it.
    """
    statuses = [status, *(int(found) for found in re.findall(r"exitcode\s*: (-?\d+)", said))]
    return next((found for found in statuses if found < 0 and found != -15), None)


def _without_a_word(trains: str, replicas: int, status: int, said: str, if_killed: str) -> str:
    who = "The process" if replicas == 1 else f"One of the {replicas} processes"
    message = f"{who} that trained {trains} ended with status {status} without reporting an error"
    if status == -9:
        return f"{message}: it was killed, most likely because memory ran out. {if_killed}"
    last = (said.strip().splitlines() or [""])[-1]
    return f"{message}; its last line of output was: {last[:300]}" if last and replicas == 1 else f"{message}; see its output."


def _main() -> None:
    """Run the child process."""
    folder, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    parent = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # processes that it starts must not keep the socket open
    os.register_at_fork(after_in_child=parent.close)
    os.dup2(1, 2)
    own = folder / f"work-{rank}"
    content = own.read_bytes()
    own.unlink()
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()

    def tell(report: EpochReport) -> None:
        try:
            parent.sendall(json.dumps(asdict(report)).encode() + b"\n")
        except ConnectionError:  # the parent has ended
            os._exit(1)

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
        os._exit(1)  # at once: an orderly shutdown would wait for the other replicas
    joined.close()


def _end_with_parent(parent: socket.socket) -> None:
    with suppress(ConnectionResetError):  # the parent ended with unread epochs
        while parent.recv(4096):
            pass
    _kill_group(os.getpid())
    os._exit(1)


if __name__ == "__main__":
    _main()
