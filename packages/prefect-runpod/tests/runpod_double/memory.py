"""RunPod's API and a Prefect server's runs in memory, for a reconciler whose clock the test controls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx
from pydantic import SecretStr

from prefect_runpod import PodCost
from prefect_runpod.api import RunPodClient
from prefect_runpod.pods.order import Marks, server_mark
from prefect_runpod.pods.reconciler import Reconciler, Watcher
from prefect_runpod.pods.runs import RunsUnavailableError, RunView
from prefect_runpod.settings import RunPodSettings

SETTINGS = RunPodSettings(look_every_s=0.01, attempts=2, backoff_s=0.001, requests_per_minute=1_000_000, lost_after_s=60)
SERVER = "http://prefect:4200/api"
POOL = UUID("7f3c1d8e-0000-4000-8000-000000000001")
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
PRICE = 3.6  # a thousandth of a dollar each second


async def at_once(seconds: float) -> None:
    await asyncio.sleep(0)


class Account:
    """Pods as the list shows them. `fails` holds the statuses of the next answers."""

    def __init__(self) -> None:
        self.now = START
        self.pods: dict[str, dict[str, Any]] = {}
        self.deleted: dict[str, datetime] = {}
        self.fails: list[int] = []
        self.hidden: set[str] = set()
        self.listed: Callable[[list[dict[str, Any]]], Any] = lambda pods: {"pods": pods}
        """The answer to a list of these pods."""
        self.itself: dict[str, dict[str, Any]] = {}
        """Fields in which a pod's own answer differs from the list."""
        self.asked: list[str] = []
        self.log: list[str] = []
        self.lists = 0
        self._numbers = count()

    def add(
        self,
        run: UUID,
        *,
        attempt: int = 0,
        pool: UUID = POOL,
        startup_s: int = 600,
        max_cost: float | None = None,
        max_price: float | None = None,
        server: str = SERVER,
        **changes: Any,
    ) -> str:
        marks = Marks(pool, run, attempt, startup_s, 3600, max_cost, server_mark(server), max_price)
        pod = {"id": f"pod{next(self._numbers)}", "name": marks.name, "status": "RUNNING", "cost": PRICE}
        pod |= {"gpu": {"id": "NVIDIA L4", "count": 1}, "createdAt": self.now.isoformat(), "runtime": {"uptime": 0}}
        self.pods[pod["id"]] = {**pod, "env": {**marks.environment(), "WANDB_API_KEY": "wb-4711"}, **changes}
        return str(pod["id"])

    def answer(self, request: httpx.Request) -> httpx.Response:
        answer = self._answer(request)
        answer.headers["date"] = format_datetime(self.now, usegmt=True)
        return answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/v2/pods")
        if self.fails:
            return httpx.Response(self.fails.pop(0), json={"title": "x", "status": 500, "detail": "out of order"})
        if request.method == "GET" and not path:
            self.lists += 1
            answer = self.listed([p for p in self.pods.values() if p["id"] not in self.hidden])
            return httpx.Response(200, text=answer) if isinstance(answer, str) else httpx.Response(200, json=answer)
        pod_id = path.split("/")[1]
        if pod_id not in self.pods:
            return httpx.Response(404, json={"title": "Not Found", "status": 404, "detail": "pod not found"})
        if path.endswith("/logs"):
            lines = [f"id: 1\ndata: {json.dumps({'ts': 't', 'source': 'container', 'line': line})}\n\n" for line in self.log]
            return httpx.Response(200, text="".join(lines))
        if request.method == "GET":
            self.asked.append(pod_id)
            return httpx.Response(200, json={**self.pods[pod_id], **self.itself.get(pod_id, {})})
        assert request.method == "DELETE"
        del self.pods[pod_id]
        self.deleted[pod_id] = self.now
        return httpx.Response(204)


class MemoryRuns:
    """Implements the interface `Runs`."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.runs: dict[UUID, RunView] = {}
        self.kept: dict[tuple[UUID, str], PodCost] = {}
        self.messages: dict[UUID, str] = {}
        self.lines: list[str] = []
        self.down = False
        self.locked = False
        """Whether reads are answered, but no account can be stored."""
        self.late_s = 0.0
        """Seconds that the server takes to list the runs, as if it were being restarted."""
        self.online: set[str] = set()

    def add(self, state: str = "RUNNING", **changes: Any) -> UUID:
        run = RunView(uuid4(), "run", state, self._account.now, state != "PENDING", state != "PENDING", None, "first")
        self.runs[run.id] = replace(run, **changes)
        return run.id

    def set(self, run: UUID, state: str, **changes: Any) -> None:
        begun = self.runs[run].begun or state == "RUNNING"
        self.runs[run] = replace(self.runs[run], state=state, since=self._account.now, begun=begun, **changes)

    def _check(self) -> None:
        if self.down:
            raise RunsUnavailableError("the server is down")

    async def look(self, ids: set[UUID]) -> dict[UUID, RunView]:
        self._check()
        self._account.now += timedelta(seconds=self.late_s)
        seen = {k: r for k, r in self.runs.items() if k in ids or r.state in ("PENDING", "RUNNING", "CANCELLING", "PAUSED")}
        return {k: replace(r, age_s=(self._account.now - r.since).total_seconds()) for k, r in seen.items()}

    async def crash(self, run: RunView, message: str) -> None:
        await self._end(run, "CRASHED", message)

    async def cancel(self, run: RunView, message: str) -> None:
        await self._end(run, "CANCELLED", message)

    async def _end(self, run: RunView, state: str, message: str) -> None:
        self._check()
        if run.id in self.runs and not self.runs[run.id].final:
            self.set(run.id, state)
            self.messages[run.id] = message

    async def resubmit(self, run: RunView, message: str) -> None:
        self._check()
        self.set(run.id, "SCHEDULED", pod=None, released=True)

    async def assign(self, run: RunView, pod: str) -> None:
        self._check()
        self.runs[run.id] = replace(self.runs[run.id], pod=pod)

    async def tell(self, run: UUID, name: str, message: str) -> None:
        self._check()

    async def log(self, run: UUID, lines: list[str]) -> None:
        self._check()
        self.lines += lines

    async def account(self, run: UUID, cost: PodCost) -> None:
        self._check()
        if self.locked:
            raise RunsUnavailableError("the database is locked")
        self.kept[run, cost.pod] = cost

    async def accounts(self, run: UUID) -> list[PodCost]:
        self._check()
        return [cost for (of, _), cost in self.kept.items() if of == run]

    async def open_accounts(self) -> list[tuple[RunView, PodCost]]:
        self._check()
        return [
            (self.runs[run], c) for (run, _), c in self.kept.items() if run in self.runs and self.runs[run].final and not c.closed
        ]

    async def at_work(self, worker: str) -> bool:
        self._check()
        return worker in self.online


class Watched:
    """An account, its runs, and the reconciler of one worker after another."""

    def __init__(self) -> None:
        self.account = Account()
        self.runs = MemoryRuns(self.account)
        self.ahead = timedelta(0)
        """How far the worker's clock is ahead of RunPod's and the Prefect server's."""
        self.adopted: list[set[str]] = []
        self.restart()

    def clock(self) -> float:
        return (self.account.now - START).total_seconds()

    def restart(self, worker: str = "first", server: str = SERVER) -> None:
        self.reconciler = self.another(worker, server)

    def another(self, worker: str, server: str = SERVER) -> Reconciler:
        """Return the reconciler of another worker of the pool."""
        transport = httpx.MockTransport(lambda request: self.account.answer(request))
        client = RunPodClient(SecretStr("key"), SETTINGS, transport, sleep=at_once, now=lambda: self.account.now + self.ahead)
        watcher = Watcher(worker, server=server, adopts=self.adopted.append)
        return Reconciler(client, self.runs, POOL, SETTINGS, watcher, clock=self.clock)

    def look(self, times: int = 1, *, after_s: float = 12) -> None:
        """Look several times, after a pause each. The containers grow older meanwhile."""
        for _ in range(times):
            self.account.now += timedelta(seconds=after_s)
            for pod in self.account.pods.values():
                if pod.get("runtime") is not None:
                    pod["runtime"] = {"uptime": pod["runtime"]["uptime"] + int(after_s)}
            asyncio.run(self.reconciler.look())

    def running(self, **changes: Any) -> tuple[UUID, str]:
        """Return a run that works in its pod, and the pod. A worker has seen both."""
        run = self.runs.add(**changes)
        pod = self.account.add(run)
        self.look()
        assert self.runs.runs[run].pod == pod
        return run, pod

    def state(self, run: UUID) -> str:
        return self.runs.runs[run].state
