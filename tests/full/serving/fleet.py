"""Two replicas of the API behind compose's proxy, on one Redis, and clients that count what failed."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.world import wait_for
from infra.local_stack.services import ROOT, Layout, localised, read_services
from infra.storage.local import LocalStore
from tests.doubles.redis_server import RedisServer, redis_server
from tests.ports import reserved_port
from tests.serving.versions import NAME, draw, promote_version, publish

CLIENTS, USERS = 4, 100
ITEMS = range(100, 130)  # the model knows them
PATIENCE_S = 300.0
JSON = {"Content-Type": "application/json"}


class Fleet:
    """The processes. The replicas have the settings of infra/compose.yaml, with this machine's addresses."""

    def __init__(self, folder: Path, redis: RedisServer, workers: int = 1) -> None:
        services = {service.name: service for service in read_services()}
        ports = {name: reserved_port() for name in services if services[name].port is not None}
        layout = Layout(folder, ports, f"file:{folder}/store", None)
        (folder / "secrets").mkdir()
        (folder / "secrets" / "api_keys").write_text("{}")
        (folder / "var" / "proxy").mkdir(parents=True)
        self.folder, self.ports, self.redis, self.log = folder, ports, redis, (folder / "log").open("ab")
        self._commands = {name: localised(services[name], layout).command for name in ("api-1", "api-2", "proxy")}
        for name in ("api-1", "api-2"):
            command = self._commands[name]
            command[command.index("--redis") + 1] = redis.url
            more = (
                f"model_name={NAME}",
                "redis.timeout_s=30",
                "poll_s=1",
                f"workers={workers}",
            )  # a slow Redis must not be taken for a dead one
            command += [part for each in more for part in ("--set", each)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *, wait: bool = True) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.processes[name] = subprocess.Popen(
            self._commands[name], env=environment, cwd=self.folder, stdout=self.log, stderr=self.log
        )
        if wait:
            self.wait(name)

    def wait(self, name: str) -> None:
        path = "proxy-health" if name == "proxy" else "readyz"
        where = f"http://127.0.0.1:{self.ports[name]}/{path}"
        wait_for(lambda: urllib.request.urlopen(where, timeout=5).read(), self.processes[name], 600)

    def end(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)
        self.processes[name].wait(PATIENCE_S)

    def roll(self, name: str) -> None:
        """Replace a replica by a new one, as an update does."""
        self.end(name, signal.SIGTERM)
        self.start(name)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.log.close()


@contextmanager
def fleet(folder: Path, workers: int = 1, prepare: Callable[[LocalStore], object] = lambda store: None) -> Iterator[Fleet]:
    """Run the fleet.

    Args:
        folder: Folder of everything.
        workers: Workers of each replica.
        prepare: Does something with the store, which has a champion, before the replicas start.
    """
    store = LocalStore(folder / "store")
    draw(folder / "version", 1)
    promote_version(store, publish(store, folder / "version").version)
    prepare(store)
    with ExitStack() as stack:
        found = Fleet(folder, stack.enter_context(redis_server()), workers)
        stack.callback(found.close)
        for name in ("proxy", "api-1", "api-2"):  # the proxy starts while the replicas are away
            found.start(name, wait=name == "proxy")
        for name in ("api-1", "api-2"):
            found.wait(name)
        yield found


@dataclass
class Load:
    """Clients that send requests through the proxy, one after the other, on connections that they keep."""

    port: int
    patient: frozenset[str] = frozenset()  # the kinds of requests that a client sends again if they fail
    failed: list[str] = field(default_factory=list)
    repeated: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    events: dict[int, set[tuple[int, int]]] = field(default_factory=dict)  # item and time of what was acknowledged, by user
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._send_on, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    @contextmanager
    def repeating(self, *kinds: str) -> Iterator[None]:
        """Let clients send requests of these kinds again if they fail, until the end of the block."""
        self.patient = frozenset(kinds)
        yield
        time.sleep(1)  # for requests that have failed but whose clients do not know it yet
        self.patient = frozenset()

    def wait_for(self, requests: int) -> None:
        while self.sent.total() < requests:
            time.sleep(0.05)

    def lost_and_doubled(self) -> tuple[int, int]:
        """Return how many acknowledged events are not stored, and how many are stored again."""
        lost = doubled = 0
        for user, events in self.events.items():
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/users/{user}/events", timeout=60) as response:
                stored = Counter((each["item_id"], each["time"]) for each in json.loads(response.read())["events"])
            lost += sum(stored[event] == 0 for event in events)
            doubled += sum(count - 1 for count in stored.values())
        return lost, doubled

    def _send_on(self, number: int) -> None:
        draw = random.Random(number)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        made = 0
        while not self.stop.is_set():
            made += 1
            kind, user = draw.choice(("recommendation", "event", "items")), CLIENTS * draw.randrange(USERS // CLIENTS) + number
            event = draw.choice(ITEMS), 1_700_000_000 + made
            if kind == "items":
                done = self._send(connection, kind, "GET", "/v1/items?query=a", None)
            elif kind == "recommendation":
                done = self._send(connection, kind, "POST", "/v1/recommendations", {"user_id": user})
            else:
                given = {"user_id": user, "item_id": event[0], "time": event[1], "event_id": f"{number}-{made}"}
                done = self._send(connection, kind, "POST", "/v1/events", {"events": [given]})
                if done:
                    self.events.setdefault(user, set()).add(event)
            self.sent[kind] += 1
        connection.close()

    def _send(self, connection: http.client.HTTPConnection, kind: str, method: str, path: str, body: Any) -> bool:
        """Send a request, and again if it failed and its kind may. Return whether it was answered in the end."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                connection.request(method, path, None if body is None else json.dumps(body), JSON)
                response = connection.getresponse()
                content = response.read()
                if response.status == 200:
                    return True
                why = f"{response.status} {content[:300].decode()}"
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                why = repr(error)
            if kind not in self.patient or time.monotonic() > end:
                self.failed.append(f"{kind}: {why}")
                return False
            self.repeated[kind] += 1
            time.sleep(0.05)
