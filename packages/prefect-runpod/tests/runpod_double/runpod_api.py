"""A double of RunPod's REST API v2 on 127.0.0.1 that runs each pod's command as a process of this machine.

It proves conformance to the published description (runpod_openapi.json beside it, both ways) and to behaviour that users
report; it proves nothing about the live service: no image is pulled, no GPU rented, no capacity or billing is real.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import shutil
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from runpod_double.description import schema_errors
from runpod_double.faults import Answer, BrokenConnectionError, Faults, problem
from runpod_double.runpod_pods import DoublePod, command_of

__all__ = ["ACCOUNT_KEY", "IMAGE", "NO_MACHINE", "Request", "Root", "RunPodDouble"]

ACCOUNT_KEY = "rpa_account-key-of-the-double"
IMAGE = f"registry.example.org/recsys-train@sha256:{'0123456789abcdef' * 4}"
NO_MACHINE = "There are no longer any instances available with the requested specifications. Please refresh and try again."
POLICY = (("minute", 60, 60), ("hour", 3000, 3600), ("day", 50000, 86400))


@dataclass
class Request:
    at: float
    method: str
    path: str
    status: int


class Root(Protocol):
    """An image of its own, for pods that see nothing else of this machine."""

    def enter(self, root: Path, command: list[str]) -> list[str]:
        """Return the command that runs `command` in a pod whose disk is the folder `root`."""


class RunPodDouble:
    """Use it as a context manager; `url` is the root address. On exit no process of any pod is left.

    Pods share this machine's file system, unless `root` is set.
    """

    root: Root | None = None

    def __init__(
        self,
        folder: Path,
        image: dict[str, str],
        *,
        prices: dict[str, float],
        newer: bool = False,
        policy: tuple[tuple[str, int, float], ...] = POLICY,
        grace_s: float = 1.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.image, self.prices, self.newer = folder, image, prices, newer
        self.policy, self.grace_s, self.now = policy, grace_s, now
        self.faults = Faults()
        self.pods: dict[str, DoublePod] = {}
        self.requests: list[Request] = []
        self.violations: list[str] = []
        """Bodies of the double that the published schema refuses. There must be none."""
        self._counted: deque[float] = deque()
        self._lock = threading.RLock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (BrokenConnectionError, ConnectionError):
                    self.close_connection = True
                    with suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)

            def answer(self) -> None:
                double.serve(self)

            do_GET = do_POST = do_DELETE = do_PATCH = answer

        self._handler, self._server = Handler, ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> RunPodDouble:
        self._listen()
        return self

    def _listen(self) -> None:
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        for pod in self.pods.values():
            pod.end(kill=True)
        shutil.rmtree(self.folder / "disks", ignore_errors=True)

    @property
    def alive(self) -> list[DoublePod]:
        return [pod for pod in self.pods.values() if pod.ended is None]

    def lose_host(self, pod_id: str) -> None:
        """Let the pod vanish without a word."""
        self.pods[pod_id].end(kill=True)

    def go_down(self, seconds: float, *, pages: bool = False) -> None:
        """Let connections break or, with `pages`, let a proxy answer with HTML pages of status 502 and 503."""
        self.faults.down_until, self.faults.pages = time.monotonic() + seconds, pages

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse connections: nobody listens."""
        self.faults.down_until, self.faults.pages = math.inf, False  # for connections that are open already
        self._server.shutdown()
        self._server.server_close()
        again = ThreadingHTTPServer(("127.0.0.1", self._server.server_port), self._handler, bind_and_activate=False)
        again.server_bind()  # without listening, so that nobody else gets the port meanwhile
        try:
            yield
        finally:
            if self.faults.down_until == math.inf:
                self.faults.down_until = 0.0
            again.server_activate()
            self._server = again
            self._listen()

    def count(self, method: str, path: str) -> int:
        """Return the number of requests of the method whose path matches."""
        return sum(request.method == method and re.fullmatch(path, request.path) is not None for request in self.requests)

    def statuses(self) -> Counter[int]:
        return Counter(request.status for request in self.requests)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        path, method = urlsplit(handler.path).path, handler.command
        length = int(handler.headers.get("Content-Length") or 0)
        raw = handler.rfile.read(length)
        if time.monotonic() < self.faults.down_until:
            self._stay_down(handler, method, path)
            return
        limits, refusal = self._count_request()
        try:
            self.faults.before(method, path)
            if refusal is not None:
                raise refusal
            self._refuse(handler, method, path)
            if method == "GET" and path.endswith("/logs"):
                self.requests.append(Request(time.monotonic(), method, path, 200))
                self._stream_log(handler, path.split("/")[3])
                return
            found = self._act(method, path, parse_qs(urlsplit(handler.path).query), raw)
            self.faults.after(method, path)
        except Answer as early:
            found = early
        self.requests.append(Request(time.monotonic(), method, path, found.status))
        if method == "POST" and path == "/v2/pods" and found.status == 201 and self.faults.lost_creates > 0:
            self.faults.lost_creates -= 1
            raise BrokenConnectionError
        self._send(handler, found, limits)

    def _stay_down(self, handler: BaseHTTPRequestHandler, method: str, path: str) -> None:
        status = 0 if not self.faults.pages else 502 + len(self.requests) % 2
        self.requests.append(Request(time.monotonic(), method, path, status))
        if not status:
            raise BrokenConnectionError
        page = b"<html><body><h1>Bad gateway</h1></body></html>"
        handler.send_response(status)
        for name, value in {"Content-Type": "text/html", "Content-Length": str(len(page))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(page)

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer, limits: dict[str, str]) -> None:
        if answer.status >= 400:
            self.violations += schema_errors("ErrorResponse", answer.content)
        data = b"" if answer.content is None else json.dumps(answer.content).encode()
        handler.send_response(answer.status)
        kind = "application/problem+json" if answer.status >= 400 else "application/json"
        headers = {**limits, **answer.headers, "x-request-id": secrets.token_hex(8), "Content-Length": str(len(data))}
        for name, value in (headers | ({"Content-Type": kind} if data else {})).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def _count_request(self) -> tuple[dict[str, str], Answer | None]:
        """Return the sliding windows of the account's limits as headers, and a refusal if one of them is used up."""
        with self._lock:
            now = time.monotonic()
            self._counted.append(now)
            while self._counted and self._counted[0] < now - max(window for _, _, window in self.policy):
                self._counted.popleft()
            left, refusal = [], None
            for name, quota, window in self.policy:
                used = [at for at in self._counted if at > now - window]
                rest_s = int(used[0] + window - now) + 1
                left.append(f'"{name}";r={max(0, quota - len(used))};t={rest_s}')
                if len(used) > quota:
                    refusal = problem(429, "rate limit exceeded", **{"Retry-After": str(rest_s)})
            policy = ", ".join(f'"{name}";q={quota};w={window:g}' for name, quota, window in self.policy)
            return {"RateLimit": ", ".join(left), "RateLimit-Policy": policy}, refusal

    def _refuse(self, handler: BaseHTTPRequestHandler, method: str, path: str) -> None:
        key = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not key:
            raise problem(401, "missing bearer token")
        own = [pod for pod in self.pods.values() if pod.environment["RUNPOD_API_KEY"] == key]
        if key != ACCOUNT_KEY:
            if not own:
                raise problem(401, "invalid bearer token")
            if not (self.faults.pods_may_end_themselves and path == f"/v2/pods/{own[0].id}/action"):
                raise problem(403, "access denied")
        if "python-urllib" in (handler.headers.get("User-Agent") or "").lower():
            raise problem(403, "error code: 1010")
        for fault in self.faults.answers:
            if fault.times > 0 and fault.method == method and re.fullmatch(fault.path, path):
                fault.times -= 1
                headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
                raise problem(fault.status, fault.detail, **headers)

    def _act(self, method: str, path: str, query: dict[str, list[str]], raw: bytes) -> Answer:
        if path == "/v2/catalog/gpus" and method == "GET":
            return self._catalogue(query)
        if path == "/v2/pods" and method == "GET":
            return self._list()
        if path == "/v2/pods" and method == "POST":
            return self._create(raw)
        match = re.fullmatch(r"/v2/pods/([^/]+)(/action)?", path)
        if match is None:
            raise problem(404, "resource not found")
        pod = self._pod(match[1])
        if match[2] and method == "POST":
            return self._action(pod, raw)
        if method == "GET":
            return self._checked(200, "Pod", pod.to_json())
        if method == "DELETE":
            pod.end()
            return Answer(204)
        raise problem(405, "method not allowed")

    def _pod(self, pod_id: str) -> DoublePod:
        pod = self.pods.get(pod_id)
        if pod is None or pod.ended is not None:
            raise problem(404, "pod not found")
        return pod

    def _list(self) -> Answer:
        shown = []
        for pod in self.alive:
            if self.faults.hidden.get(pod.id, 0) > 0:
                self.faults.hidden[pod.id] -= 1
            else:
                shown.append(pod.to_json())
        return self._checked(200, "ListPodsResponse", {"pods": shown})

    def _catalogue(self, query: dict[str, list[str]]) -> Answer:
        if "include" in query and "product" not in query:
            raise problem(400, "product is required when include is AVAILABILITY")
        gpus = [
            {
                "id": gpu,
                "name": gpu.removeprefix("NVIDIA "),
                "pool": None,
                "manufacturer": "NVIDIA",
                "memory": 24,
                "secure": True,
                "community": True,
                "price": {"secure": price, "community": round(price * 0.7, 2)},
                "maxCount": {"secure": 8, "community": 4},
                **({"availability": "NONE" if gpu in self.faults.no_capacity else "HIGH"} if "include" in query else {}),
            }
            for gpu, price in self.prices.items()
        ]
        return self._checked(200, "ListGpuTypesResponse", {"gpus": gpus})

    def _create(self, raw: bytes) -> Answer:
        if len(raw) > 102_400:
            raise problem(413, "request body too large")
        body = json.loads(raw)
        errors = schema_errors("CreatePodRequest", body, newer=self.newer)
        if errors:
            raise problem(422, "Request validation failed.", errors)
        shown = self.rent(body).to_json()
        return self._checked(201, "Pod", {**shown, "cost": 0.0} if self.faults.price_after_create else shown)

    def rent(self, body: dict[str, Any]) -> DoublePod:
        """Rent a pod for a body that the schema accepts. Raise what the rules or the faults object to."""
        gpu = body.get("gpu", {}).get("id")
        if gpu is None or "image" not in body:
            raise problem(400, "exactly one of gpu or cpu, and an image, must be given")
        if gpu in self.faults.forbidden:
            raise problem(403, "this pool is not accessible")
        if gpu not in self.prices:
            raise problem(400, f"unknown gpu type {gpu}")
        if gpu in self.faults.no_capacity:
            raise problem(400, NO_MACHINE)
        pod_id = secrets.token_hex(7)
        count = body["gpu"].get("count", 1)
        injected = {
            "RUNPOD_POD_ID": pod_id,
            "RUNPOD_API_KEY": f"rpa_pod-{secrets.token_hex(8)}",
            "RUNPOD_GPU_COUNT": str(count),
            "RUNPOD_DC_ID": "EU-RO-1",
        }
        home = self.folder / "disks" / pod_id
        pod = DoublePod(
            id=pod_id,
            body=body,
            command=command_of(body) if self.root is None else self.root.enter(home, command_of(body)),
            environment={"HOME": str(home), **self.image, **body.get("env", {}), **injected},
            folder=home,
            price=self.faults.billed.get(gpu, self.prices[gpu]) * count,
            data_center="EU-RO-1",
            start_s=self.faults.start_s,
            restart_s=self.faults.restart_s,
            grace_s=self.grace_s,
            runtime_after_s=self.faults.runtime_after_s,
            now=self.now,
        )
        self.pods[pod_id] = pod
        pod.begin()
        return pod

    def _action(self, pod: DoublePod, raw: bytes) -> Answer:
        body = json.loads(raw)
        errors = schema_errors("PodActionRequest", body)
        if errors:
            raise problem(422, "Request validation failed.", errors)
        action = body["action"]
        if action not in pod.to_json()["actions"]:
            raise problem(409, f"{action} is not valid while the pod is {pod.status}")
        if action == "terminate":
            threading.Thread(target=pod.end, daemon=True).start()  # the pod itself may be asking
            return Answer(204)
        if action in ("stop", "restart"):
            pod.stop()
        if action in ("start", "restart"):
            pod.start()
        return self._checked(200, "Pod", pod.to_json())

    def _checked(self, status: int, schema: str, content: Any) -> Answer:
        self.violations += schema_errors(schema, content)
        return Answer(status, content)

    def _stream_log(self, handler: BaseHTTPRequestHandler, pod_id: str) -> None:
        """Send the tail as server-sent events, and then each new line, until either side ends."""
        query = parse_qs(urlsplit(handler.path).query)
        source, tail = query.get("source", [None])[0], int(query.get("tail", ["100"])[0])
        after = handler.headers.get("Last-Event-ID")
        handler.close_connection = True
        pod = self.pods.get(pod_id)
        if pod is None or pod.ended is not None:
            self._send(handler, problem(404, "pod not found"), {})
            return
        handler.send_response(200)
        for name, value in {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Connection": "close"}.items():
            handler.send_header(name, value)
        handler.end_headers()
        sent = max(0, len(pod.lines) - tail)
        if after is not None:
            sent = next((place + 1 for place, line in enumerate(pod.lines) if line.id == after), sent)
        while pod.ended is None:
            for line in pod.lines[sent:]:
                if source in (None, line.source):
                    data = json.dumps({"ts": line.ts, "source": line.source, "line": line.line})
                    handler.wfile.write(f"id: {line.id}\ndata: {data}\n\n".encode())
            sent = len(pod.lines)
            handler.wfile.flush()
            time.sleep(0.1)
