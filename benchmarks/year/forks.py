"""Processes of flow runs that start in milliseconds: `python -m benchmarks.year.forks SOCKET PROGRAM` forks them.

A worker starts a process for each run, which takes seconds to import the product. Within a year these are hours. So the year's worker
starts a small client instead (`CLIENT`), which asks a process that has imported everything for a fork. The fork is a process of its own,
as clean as a new one. It ends with its client, so whoever kills the one kills both.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from tasks.evaluation import load_check

__all__ = ["CLIENT", "PRELOADED", "serve_forks"]

CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect("{socket}")
module = sys.argv.index("-m") + 1
body = json.dumps({{"env": dict(os.environ), "cwd": os.getcwd(), "arguments": sys.argv[module:]}}).encode()
socket.send_fds(server, [len(body).to_bytes(4, "big")], [0, 1, 2])
server.sendall(body)
answer = server.recv(4)
code = int.from_bytes(answer, "big", signed=True) if len(answer) == 4 else 1
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
PRELOADED = (
    "pandera.typing.dask",
    "prefect.artifacts",
    "prefect.engine",
    "prefect.events.clients",
    "prefect.events.utilities",
    "prefect.events.worker",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.task_runners",
    "models.markov.recommender",
    "models.popularity.recommender",
    "websockets.asyncio.client",
)
"""Modules that runs need. Importing them starts no thread."""
PACKAGES = ("configs", "flows", "infra.registry", "infra.storage", "models.evaluation", "models.training", "tasks")
"""All modules of these are imported too, because many are imported only when a run needs them."""
LEFT_OUT = ("cli", "dask", "evidently", "mlflow", "s3", "wandb", "_main")


def preload() -> None:
    """Import what runs need."""
    for name in PRELOADED:
        importlib.import_module(name)
    for package in PACKAGES:
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not any(part in found.name for part in LEFT_OUT):
                importlib.import_module(found.name)


def serve_forks() -> None:
    """Fork a process for each client."""
    place, program = sys.argv[1:]
    preload()
    listener = socket.socket(socket.AF_UNIX)
    Path(place).unlink(missing_ok=True)
    listener.bind(place)
    listener.listen(32)
    children: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as waiting:
        waiting.register(listener, selectors.EVENT_READ)
        woken, wakes = os.pipe()
        os.set_blocking(wakes, False)
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        waiting.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is listener:
                    client, _ = listener.accept()
                    pid = _fork(client, listener, program)
                    children[pid] = client
                    waiting.register(client, selectors.EVENT_READ, pid)
                elif key.fd == woken:
                    os.read(woken, 100)
                    _reap(children, waiting)
                else:  # the client has gone
                    os.kill(key.data, signal.SIGKILL)
                    waiting.unregister(key.fileobj)


def _fork(client: socket.socket, listener: socket.socket, client_program: str) -> int:
    head, descriptors, _, _ = socket.recv_fds(client, 4, 3)
    length, body = int.from_bytes(head, "big"), b""
    while len(body) < length:
        body += client.recv(length - len(body))
    pid = os.fork()
    if pid:
        for each in descriptors:
            os.close(each)
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        client.close()
        given = json.loads(body)
        os.setsid()
        os.chdir(given["cwd"])
        os.environ.clear()
        os.environ.update(given["env"])
        for target, source in enumerate(descriptors):
            os.dup2(source, target)
        sys.argv = given["arguments"]
        vars(load_check)["sys"] = SimpleNamespace(executable=client_program, path=sys.path)  # its clean process is a fork, too
        try:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        finally:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _reap(children: dict[int, socket.socket], waiting: selectors.BaseSelector) -> None:
    while children:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        client = children.pop(pid)
        if client in [key.fileobj for key in waiting.get_map().values()]:
            waiting.unregister(client)
        with suppress(OSError):
            client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
        client.close()


if __name__ == "__main__":
    serve_forks()
