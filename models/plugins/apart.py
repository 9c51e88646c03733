"""A plugin's model that answers from a process of its own: `python -m models.plugins.apart FOLDER THREADS PLUGIN...`.

The process, and what the plugin starts there, ends with this one. Requests and scores pass through a socket, as arrays.
"""

from __future__ import annotations

import io
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from configs import errors
from configs.child_processes import child_environment
from configs.errors import RecsysError, TrainingError
from configs.kinds import place_of, plugins_in_use, register
from models.kinds import kind_in
from models.loading import load_recommender
from models.plugins.faults import blamed, refuse
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences

__all__ = ["load_apart"]

START_S, ANSWER_S = 600.0, 600.0  # longest wait for a model to load, and for the scores of a batch of requests
END_S = 10.0  # longest wait for a process that has closed its socket
HEAD = struct.Struct("<Q")
MOST_BYTES = 1 << 36


def load_apart(folder: Path) -> Recommender:
    """Load a model that answers requests. A plugin's model gets a process of its own, which ends with the model.

    Raises:
        VersionCorruptError: if the folder does not contain a model of a known kind.
        TrainingError: if a plugin's model cannot be loaded.
    """
    kind = kind_in(folder).kind
    return load_recommender(folder) if place_of(kind) is None else _ApartRecommender(kind, folder)


class _ApartRecommender(Recommender):
    """A trained model of a plugin, as this process sees it. It only answers requests; no other method is called here."""

    name: ClassVar[str]
    sequential: ClassVar[bool]

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "models.plugins.apart",
                    str(folder.absolute()),
                    str(torch.get_num_threads()),
                    *plugins_in_use(),
                ],
                stdin=theirs.fileno(),
                stdout=2,
                env=child_environment(),
                start_new_session=True,  # so that what the plugin has started can be ended with it
            )
        self._end = weakref.finalize(self, _end, self._process, self._channel)
        head, content = self._answer(START_S, "load")
        self.catalogue = np.frombuffer(content, np.int64)
        # This process has several models, each with its own name and order, and the port has them as attributes of a class.
        self.__class__ = type("_ApartRecommender", (_ApartRecommender,), {"name": kind, "sequential": bool(head["sequential"])})

    def settings(self) -> dict[str, Any]:
        raise NotImplementedError

    def fit(
        self,
        train: Sequences,
        valid: Requests,
        catalogue: IntArray,
        *,
        seed: int,
        mask_seen: bool,
        checkpoint_dir: Path | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> FitReport:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Recommender:
        raise NotImplementedError

    def scores(self, requests: Requests) -> torch.Tensor:
        head, answer = self._asked("scores", requests)
        return torch.from_numpy(np.frombuffer(answer, np.float32).reshape(head["shape"]).copy())

    def predict_ratings(self, requests: Requests) -> torch.Tensor | None:
        head, answer = self._asked("ratings", requests)
        return None if head["shape"] is None else torch.from_numpy(np.frombuffer(answer, np.float32).copy())

    def _asked(self, what: Literal["scores", "ratings"], requests: Requests) -> tuple[dict[str, Any], bytes]:
        content = io.BytesIO()
        given = {field.name: getattr(requests, field.name) for field in fields(Requests)}
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in given.items() if value is not None}
        np.savez(content, **arrays)
        self._channel.settimeout(ANSWER_S)
        with suppress(ConnectionError, TimeoutError):  # what happened to the process is told by its answer
            _send(self._channel, {"asks": what}, content.getvalue())
        return self._answer(ANSWER_S, f"answer {len(requests)} requests")

    def _answer(self, wait_s: float, doing: str) -> tuple[dict[str, Any], bytes]:
        self._channel.settimeout(wait_s)
        try:
            head, content = _receive(self._channel)
        except TimeoutError:
            self._end()
            refuse(self._kind, f"it did not {doing} within {wait_s:g} s, so its process was ended")
        except ConnectionError:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            self._end()
            status = self._process.returncode
            refuse(self._kind, f"its process ended with status {status} while it should {doing}")
        if "fault" in head:
            self._end()
            known = getattr(errors, head["class"], None)
            raise (known if isinstance(known, type) and issubclass(known, RecsysError) else TrainingError)(head["fault"])
        return head, content


def _end(process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    channel.close()
    _kill_group(process.pid)
    process.wait()


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # all of it has ended
        os.killpg(group, signal.SIGKILL)


def _send(channel: socket.socket, head: dict[str, Any], content: bytes = b"") -> None:
    text = json.dumps(head).encode()
    channel.sendall(HEAD.pack(len(text)) + HEAD.pack(len(content)) + text)
    channel.sendall(content)


def _receive(channel: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Return the next message. Raises ConnectionError at the end of the stream, and TimeoutError."""
    lengths = _exactly(channel, 2 * HEAD.size)
    text, content = HEAD.unpack(lengths[: HEAD.size])[0], HEAD.unpack(lengths[HEAD.size :])[0]
    if max(text, content) > MOST_BYTES:
        raise ConnectionError("the other process does not speak this protocol")
    head: dict[str, Any] = json.loads(_exactly(channel, text))
    return head, bytes(_exactly(channel, content))


def _exactly(channel: socket.socket, length: int) -> bytearray:
    found = bytearray(length)
    view = memoryview(found)
    while len(view):
        count = channel.recv_into(view)
        if not count:
            raise ConnectionError("the other process has ended")
        view = view[count:]
    return found


def _requests_in(content: bytes) -> Requests:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        given: dict[str, Any] = {name: arrays[name] for name in arrays.files}
    return Requests(**given | {"ties_drawn": bool(given["ties_drawn"])})


def _rated(kind: str, model: Recommender, requests: Requests) -> torch.Tensor | None:
    with torch.no_grad():
        found = model.predict_ratings(requests)
    if found is None:
        return None
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != (len(requests),):
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        refuse(kind, f"its ratings for {len(requests)} requests are {shape}, not a tensor of ({len(requests)},)")
    return found.float().cpu().contiguous()


def _scored(kind: str, model: Recommender, requests: Requests) -> torch.Tensor:
    with torch.no_grad():
        scores = model.scores(requests)
    wanted = (len(requests), len(model.catalogue))
    if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != wanted:
        shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        refuse(kind, f"its scores for {wanted[0]} requests and {wanted[1]} items are {shape}, not a tensor of {wanted}")
    if not bool(torch.isfinite(scores).all()):
        bad = int(torch.nonzero(~torch.isfinite(scores))[0, 0])
        refuse(kind, f"its scores for user {int(requests.user_ids[bad])} are NaN or infinite")
    return scores.float().cpu().contiguous()


def _end_at_hang_up(channel: socket.socket) -> None:
    """End this process, and those that it has started, as soon as the other end of the socket is closed."""
    watched = select.poll()
    watched.register(channel, 0)  # a hang-up is always reported

    def watch() -> None:
        watched.poll()
        _kill_group(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _main() -> None:
    channel = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # processes that the plugin starts must not keep the socket open
    os.register_at_fork(after_in_child=channel.close)
    _end_at_hang_up(channel)
    folder, threads, *plugins = Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    torch.set_num_threads(threads)
    kind = ""
    with suppress(ConnectionError):  # the other process has ended
        try:
            register(plugins)
            kind = kind_in(folder).kind
            with blamed(kind, "loading"):
                model = load_recommender(folder)
                catalogue = np.ascontiguousarray(model.catalogue, np.int64)
                if catalogue.ndim != 1 or (np.diff(catalogue) <= 0).any():
                    refuse(kind, "its catalogue is not a list of ascending item ids")
            _send(channel, {"sequential": bool(model.sequential)}, catalogue.tobytes())
            while True:
                asked, content = _receive(channel)
                requests = _requests_in(content)
                if asked["asks"] == "ratings":
                    with blamed(kind, "predicting ratings"):
                        found = _rated(kind, model, requests)
                else:
                    with blamed(kind, "scoring"):
                        found = _scored(kind, model, requests)
                answer = b"" if found is None else found.numpy().tobytes()
                _send(channel, {"shape": None if found is None else list(found.shape)}, answer)
        except RecsysError as error:
            _send(channel, {"fault": str(error), "class": type(error).__name__})


if __name__ == "__main__":
    _main()
