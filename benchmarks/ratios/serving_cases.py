"""Requests to the API, called as an application in this process, beside a route of FastAPI with a canned answer.

`benchmarks.serving.framework` measures the same through sockets. The model, the users and the canned route are the same. The
request log is off, and the states are in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.ratios.measuring import Case, Place, Side
from benchmarks.serving.load import FIRST
from benchmarks.serving.plain import canned
from benchmarks.serving.world import NAME, histories, publish_drawn
from configs.serving import ServingSettings
from infra.storage.local import LocalStore
from serving.api.app import create_app

__all__ = ["cached", "event", "history", "state"]

ITEMS, USERS, SEED = 1682, 943, 1  # as in ML-100K
GIVEN = 50
MOST_WAIT_S = 600  # for the model, on a busy machine
BODIES = 200  # different requests, which are sent in turn
RECOMMEND, EVENTS = "/v1/recommendations", "/v1/events"


@dataclass(frozen=True, eq=False)
class Served:
    """The applications of this process, and the loop in which they run."""

    runner: asyncio.Runner
    plain: Any
    ours: Any
    caching: Any
    users: int
    items: int

    def side(self, app: Any, path: str, bodies: Callable[[], bytes]) -> Side:
        """Return a side that sends an application requests, one after the other."""

        async def send(calls: int) -> None:
            for _ in range(calls):
                await asked(app, path, bodies())

        return lambda calls: self.runner.run(send(calls))

    def canned(self) -> Side:
        return self.side(self.plain, RECOMMEND, in_turn(_known(user) for user in range(BODIES)))


async def asked(app: Any, path: str, body: bytes) -> bytes:
    """Return the body of an application's answer. Raises ValueError if the answer is an error."""
    status, answer = 0, []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if waiting:
            return waiting.pop()
        return await asyncio.get_running_loop().create_future()  # the client stays

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        answer.append(message.get("body", b""))

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
    }
    scope |= {"raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers, "state": {}}
    await app(scope | {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}, receive, send)
    content = b"".join(answer)
    if status != 200:
        raise ValueError(f"{path} answered {status}: {content.decode()}")
    return content


def served(place: Place) -> Served:
    """Publish a model, start both applications and tell them the users' latest events."""
    items, users = place.size(ITEMS, 60), place.size(USERS, 3)
    published = place.folder / "serving" / "store"
    store = LocalStore(published)
    publish_drawn(store, place.folder / "serving" / "model", items, SEED)
    runner = place.stack.enter_context(asyncio.Runner())
    apps: list[Any] = []
    for kind, cache in (("ours", 0), ("caching", 3600)):
        folder = place.folder / "serving" / kind
        settings = {"model_name": NAME, "store": {"url": f"file:{published}"}, "work_dir": str(folder), "log_requests": False}
        settings |= {"batch": {"cache_s": cache}, "outcomes": {"folder": str(folder / "outcomes")}}
        app = create_app(ServingSettings.model_validate(settings))
        lifespan = app.router.lifespan_context(app)
        place.stack.callback(_leave, runner, lifespan)
        runner.run(_start(app, lifespan))
        apps.append(app)
        for user, person in enumerate(histories(users, items, SEED)):
            latest = list(zip(person.items.tolist(), person.times.tolist(), strict=True))[-30:]
            told = [{"user_id": user, "item_id": item, "time": at} for item, at in latest]
            runner.run(asked(app, EVENTS, json.dumps({"events": told}).encode()))
    return Served(runner, canned(), apps[0], apps[1], users, items)


async def _start(app: Any, lifespan: Any) -> None:
    """Start an application. Returns once it has a model, which takes long the first time, because kernels are compiled."""
    await lifespan.__aenter__()
    until = time.monotonic() + MOST_WAIT_S
    while app.state.worker.engine.models.champion is None:
        if time.monotonic() > until:
            raise TimeoutError(f"the model was not served after {MOST_WAIT_S} seconds: {app.state.worker.follower.refused}")
        await asyncio.sleep(0.05)


def _leave(runner: asyncio.Runner, lifespan: Any) -> None:
    runner.run(lifespan.__aexit__(None, None, None))


def state(place: Place) -> Case:
    """An answer to a user whose state is kept."""
    world = place.once(served)
    return Case(world.side(world.ours, RECOMMEND, in_turn(_known(user % world.users) for user in range(BODIES))), world.canned())


def cached(place: Place) -> Case:
    """The answer to a question that was asked before."""
    world = place.once(served)
    return Case(
        world.side(world.caching, RECOMMEND, in_turn(_known(user % world.users) for user in range(BODIES))), world.canned()
    )


def history(place: Place) -> Case:
    """An answer to somebody whose history comes with the request."""
    world, rng = place.once(served), np.random.default_rng(SEED)
    bodies = []
    for _ in range(BODIES):
        drawn = rng.integers(1, world.items + 1, GIVEN).tolist()
        events = [{"item_id": item, "time": FIRST + 60 * number} for number, item in enumerate(drawn)]
        bodies.append(json.dumps({"k": 10, "history": events}).encode())
    return Case(world.side(world.ours, RECOMMEND, in_turn(bodies)), world.canned())


def event(place: Place) -> Case:
    """An event of a known user, each later than the one before."""
    world, rng = place.once(served), np.random.default_rng(SEED)
    items = itertools.cycle(rng.integers(1, world.items + 1, 1009).tolist())
    number = itertools.count()

    def body() -> bytes:
        count = next(number)
        told = (count % world.users, next(items), FIRST + count)
        return b'{"events":[{"user_id":%d,"item_id":%d,"time":%d}]}' % told

    return Case(world.side(world.ours, EVENTS, body), world.canned())


def in_turn(bodies: Any) -> Callable[[], bytes]:
    """Return a function that returns the bodies one after the other, again and again."""
    cycle: Iterator[bytes] = itertools.cycle(list(bodies))
    return lambda: next(cycle)


def _known(user: int) -> bytes:
    return b'{"user_id":%d,"k":10}' % user
