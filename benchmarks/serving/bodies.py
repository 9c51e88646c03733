"""What the worst request bodies cost a worker: `python -m benchmarks.serving.bodies`.

The bodies are made from the schemas of the API. Each field of each request, and of each event in it, holds every kind of content
that the schema accepts or refuses: too many elements, the wrong type, deep nesting, many, repeated and long keys, long text, long
numbers, damaged text. Each body is as large as `limits.body_bytes` allows. Kinds that repeat a small value also have a variant with
only as many values as the count of commas and brackets lets through, and valid requests ask for the most that they may.

The bodies are sent to one worker, one after another. For each, the result has the CPU seconds that the worker used and the growth of
its resident memory at the peak. Then 16 normal clients ask at a steady rate, first alone, and again while the worst bodies arrive
without a pause. Last, clients that send half a body, and clients that send nothing, keep their connections open.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from benchmarks.report import hardware, write_result
from benchmarks.serving.open_load import Measured, http_request, send_at_rate
from benchmarks.serving.world import NAME, free_port, publish_drawn, running
from configs.annotations import models_in
from configs.serving import LimitSettings, ServingSettings
from infra.pages import markdown_table
from infra.storage.local import LocalStore
from serving.api.bodies import Marks
from serving.api.requests import EXCLUDED, EventsRequest, RecommendationRequest

__all__ = ["Body", "Cost", "Worker", "bodies", "render"]

ROUTES: dict[str, type[BaseModel]] = {"/v1/recommendations": RecommendationRequest, "/v1/events": EventsRequest}
CPU_S, MEMORY_MIB, P99_MS = 0.2, 64, 100  # the bars
CLIENTS, RATE = 16, 160
WORST = 20  # bodies that are reported, and that arrive while normal clients ask
START = 1_700_000_000


class Body(NamedTuple):
    """A body to send."""

    path: str
    name: str
    content: bytes


@dataclass(frozen=True)
class Cost:
    """What a body cost the worker."""

    path: str
    name: str
    status: int
    cpu_s: float
    memory_mib: float
    answer_bytes: int


def bodies(limits: LimitSettings) -> Iterator[Body]:
    """Yield every body that is tried."""
    for path, model in ROUTES.items():
        for name, content in values(limits.body_bytes, limits):
            yield Body(path, f"the body is {name}", content)
        for key, field in model.model_fields.items():
            yield from _filled(path, key, b'{"%b":' % key.encode(), b"}", limits)
            for element in models_in(field.annotation):
                for inner in element.model_fields:
                    begin = b'{"%b":[{"%b":' % (key.encode(), inner.encode())
                    yield from _filled(path, f"{key}.0.{inner}", begin, b"}]}", limits)
        yield from (Body(path, name, content) for name, content in _valid(path, limits))


def _filled(path: str, name: str, begin: bytes, end: bytes, limits: LimitSettings) -> Iterator[Body]:
    for kind, content in values(limits.body_bytes - len(begin) - len(end), limits):
        yield Body(path, f"{name} is {kind}", begin + content + end)


def values(size: int, limits: LimitSettings) -> Iterator[tuple[str, bytes]]:
    """Yield JSON values, and damaged ones, of at most `size` bytes, each with a name."""
    allowed = Marks.allowed(limits)
    units = {
        "a list of {}": b"{}",
        "a list of []": b"[]",
        "a list of numbers": b"1",
        "a list of fractions": b"1e1",
        "a list of texts": b'"a"',
        "a list of null": b"null",
        "a list of objects with one key": b'{"a":1}',
        "a list of objects with an id and an unknown key": b'{"item_id":1,"a":1}',
        "a list of lists in lists": b"[" * 50 + b"]" * 50,
        "a list of objects in objects": b'{"":' * 50 + b"0" + b"}" * 50,
        "a list of numbers of 4,300 digits": b"9" * 4300,
        "a list of ids": b"105",
        "a list of events": b'{"user_id":7,"item_id":105,"time":1700000000}',
    }
    for name, unit in units.items():
        most = (size - 2) // (len(unit) + 1)
        used = Marks.of(unit)
        counted = min(allowed.brackets // max(used.brackets, 1), allowed.commas // (used.commas + 1)) - 10
        yield name, _list_of(unit, most)
        if counted < most:
            yield f"{name}, as many as are parsed", _list_of(unit, counted)
    for name, key in {"distinct keys": b'"%06x":0', "one key, repeated": b'"item_id":0', "k, repeated": b'"k":1'}.items():
        most = (size - 2) // (len(key % 0 if b"%" in key else key) + 1)
        for variant, count in (("", most), (", as many as are parsed", min(allowed.commas - 10, most))):
            yield f"an object of {name}{variant}", b"{%b}" % b",".join([key % n if b"%" in key else key for n in range(count)])
    plain = size - 20
    yield from {
        "a list 2,000,000 deep": b"[" * size,
        "an object 400,000 deep": b'{"a":' * (size // 5),
        "a long text": b'"%b"' % (b"a" * plain),
        "a long text of three-byte characters": b'"%b"' % ("\u6620".encode() * (plain // 3)),
        "a long text with one wide character": b'"\xf0\x9f\x98\x80%b"' % (b"a" * plain),
        "a long text of escapes": b'"%b"' % (b"\\u0041" * (plain // 6)),
        "a long text of quotes": b'"%b"' % (b'\\"' * (plain // 2)),
        "a long text of halves of characters": b'"%b"' % (b"\\ud800" * (plain // 6)),
        "a long text of commas": b'"%b"' % (b"," * plain),
        "a long text that is not UTF-8": b'"%b"' % (b"\xff" * plain),
        "a long key": b'{"%b":1}' % (b"a" * plain),
        "two million digits": b"9" * plain,
        "two million digits after a point": b"0." + b"9" * plain,
        "an exponent of two million digits": b"1e" + b"9" * plain,
        "NaN": b"NaN",
        "a list of NaN": _list_of(b"NaN", plain // 4),
        "a list that does not end": b"[" + b"1," * (plain // 2),
        "an object that does not end": b"{" + b'"a":1,' * (plain // 6),
        "blanks": b" " * size,
        "null": b"null",
    }.items()


def _list_of(unit: bytes, count: int) -> bytes:
    return b"[%b]" % b",".join([unit] * count)


def _valid(path: str, limits: LimitSettings) -> Iterator[tuple[str, bytes]]:
    """Yield the requests that ask for the most that is allowed."""
    rng = random.Random(1)
    if path == "/v1/events":
        base = {"item_id": 105, "time": START}
        for name, events in {
            "of one user, in order": [base | {"user_id": 1, "time": START + n} for n in range(limits.events)],
            "of one user, newest first": [base | {"user_id": 2, "time": START - n} for n in range(limits.events)],
            "of as many users": [base | {"user_id": 1000 + n} for n in range(limits.events)],
            "with long ids": [base | {"user_id": 3, "event_id": f"{n:0200d}"} for n in range(limits.events)],
        }.items():
            yield f"as many events as are allowed, {name}", json.dumps({"events": events}).encode()
        return
    history = [{"item_id": rng.randint(1, 60_000), "time": START + rng.randint(0, 10**7)} for _ in range(limits.history)]
    excluded = {"exclude": list(range(1, EXCLUDED + 1))}
    everything = {"history": history, "k": limits.k, "explain": True, **excluded}
    for name, asked in {
        "the longest history": {"history": history},
        "the longest history without times": {"history": [{"item_id": event["item_id"]} for event in history]},
        "the longest history of one film": {"history": [{"item_id": 105}] * limits.history},
        "the longest history, list of films to leave out and answer, with reasons": everything,
        "the longest answer": {"k": limits.k},
        "the longest answer, of a known user, with reasons": {"user_id": 1, "k": limits.k, "explain": True},
        "the longest list of films to leave out": {"user_id": 1, **excluded},
    }.items():
        yield name, json.dumps(asked).encode()


class Worker:
    """A running worker, and what it uses."""

    def __init__(self, port: int, pid: int) -> None:
        self.port, self.pid = port, pid

    def cpu_s(self) -> float:
        """Return the CPU seconds of all threads, from the clock that Linux keeps for each process."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def memory_mib(self, field: str) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return int(status.split(f"{field}:")[1].split()[0]) / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="utf-8")

    def cost_of(self, body: Body) -> Cost:
        """Send a body and measure."""
        self.forget_peak()
        cpu, memory = self.cpu_s(), self.memory_mib("VmRSS")
        status, answer = self.send(body)
        return Cost(
            path=body.path,
            name=body.name,
            status=status,
            cpu_s=round(self.cpu_s() - cpu, 4),
            memory_mib=round(max(self.memory_mib("VmHWM") - memory, 0), 1),
            answer_bytes=len(answer),
        )

    def send(self, body: Body) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", body.path, body.content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def normal_clients(self, seconds: float, seed: int) -> Measured:
        """Ask as normal clients do, at a steady rate."""
        rng = random.Random(seed)

        def request() -> bytes:
            user = rng.randrange(1000)
            if rng.random() < 0.2:
                event = {"user_id": user, "item_id": rng.randint(1, 1000), "event_id": f"{rng.random()}"}
                return http_request("/v1/events", json.dumps({"events": [event]}).encode())
            return http_request("/v1/recommendations", b'{"user_id":%d,"k":10}' % user)

        return send_at_rate(self.port, request, rate=RATE, seconds=seconds, connections=CLIENTS, seed=seed)

    def normal_clients_during(self, attack: list[Body], seconds: float) -> tuple[Measured, int]:
        """Return what normal clients saw while the bodies arrived without a pause, and how many arrived."""
        stop, sent = threading.Event(), 0

        def send_all() -> None:
            nonlocal sent
            while not stop.is_set():
                self.send(attack[sent % len(attack)])
                sent += 1

        thread = threading.Thread(target=send_all)
        thread.start()
        try:
            return self.normal_clients(seconds, seed=2), sent
        finally:
            stop.set()
            thread.join()


def _slow_clients(worker: Worker, limits: LimitSettings, half: int, silent: int) -> dict[str, Any]:
    """Open connections that send half a body, or nothing. Return how many stay open, and the memory that they take."""
    memory = worker.memory_mib("VmRSS")
    worker.forget_peak()
    head = b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    content = head % limits.body_bytes + b" " * (limits.body_bytes // 2)
    connections = []
    for number in range(half + silent):
        connection = socket.create_connection(("127.0.0.1", worker.port), 30)
        connection.setblocking(False)
        connections.append(connection)
        if number < half:
            _send_what_fits(connection, content)
    grown = worker.memory_mib("VmHWM") - memory
    time.sleep(limits.receive_s + 2)
    still_open = sum(map(_is_open, connections))
    for connection in connections:
        connection.close()
    return {"half": half, "silent": silent, "memory_mib": round(grown, 1), "open_after_deadline": still_open}


def _send_what_fits(connection: socket.socket, content: bytes) -> None:
    end = time.monotonic() + 0.2
    while content and time.monotonic() < end:
        try:
            content = content[connection.send(content) :]
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:  # the server has answered and closed the connection
            return


def _is_open(connection: socket.socket) -> bool:
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def render(result: dict[str, Any]) -> str:
    """Return the worst bodies as a Markdown table, and a sentence for each other figure."""
    rows = [
        [row["path"], row["name"], str(row["status"]), f"{row['cpu_s'] * 1000:.0f}", f"{row['memory_mib']:.0f}"]
        for row in result["worst"]
    ]
    table = markdown_table(["route", "body", "status", "CPU, ms", "memory, MiB"], rows)
    normal, slow = result["normal"], result["slow"]
    return (
        f"{table}\n\n{result['bodies']} bodies of at most {result['body_bytes']:,} bytes; the worst CPU "
        f"{result['most_cpu_s'] * 1000:.0f} ms (bar {CPU_S * 1000:.0f}), the most memory {result['most_memory_mib']:.0f} MiB "
        f"(bar {MEMORY_MIB}), the longest refusal {result['most_answer_bytes']:,} bytes. {CLIENTS} normal clients at {RATE}/s: p99 "
        f"{normal['alone_p99_ms']:.1f} ms alone, {normal['p99_ms']:.1f} ms (bar {P99_MS}) while {normal['sent']} of these bodies "
        f"arrived, {normal['failed']} failed. {slow['half']} clients with half a body and {slow['silent']} silent ones: "
        f"{slow['memory_mib']:.0f} MiB, {slow['open_after_deadline']} open after the deadline. Load "
        f"{result['hardware']['load_1_min']}."
    )


def main() -> None:
    """Start a worker, send the bodies, and write and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=62_000)
    parser.add_argument("--seconds", type=float, default=10, help="seconds for which normal clients are measured, each time")
    parser.add_argument("--half", type=int, default=200, help="connections that send half a body")
    parser.add_argument("--silent", type=int, default=3000, help="connections that send nothing")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bodies.json"))
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="recsys-bodies-") as name, ExitStack() as stack:
        root = Path(name)
        publish_drawn(LocalStore(root / "store"), root / "model", given.items, 1)
        settings = ServingSettings.model_validate(
            {
                "model_name": NAME,
                "store": {"url": f"file:{root}/store"},
                "work_dir": str(root / "served"),
                "port": free_port(),
                "poll_s": 3600,
            }
        )
        process = stack.enter_context(running(settings, log=root / "server.log"))
        worker, limits = Worker(settings.port, process.pid), settings.limits
        worker.normal_clients(2, seed=0)
        costs = [worker.cost_of(body) for body in bodies(limits)]
        costs.sort(key=lambda cost: cost.cpu_s, reverse=True)
        worst = {(cost.path, cost.name) for cost in costs[:WORST]}
        attack = [body for body in bodies(limits) if (body.path, body.name) in worst]
        alone = worker.normal_clients(given.seconds, seed=1)
        during, sent = worker.normal_clients_during(attack, given.seconds)
        slow = _slow_clients(worker, limits, given.half, given.silent)
    result = {
        "items": given.items,
        "body_bytes": limits.body_bytes,
        "bodies": len(costs),
        "most_cpu_s": costs[0].cpu_s,
        "most_memory_mib": max(cost.memory_mib for cost in costs),
        "most_answer_bytes": max(cost.answer_bytes for cost in costs if cost.status >= 400),
        "failed": [asdict(cost) for cost in costs if cost.status >= 500],
        "worst": [asdict(cost) for cost in costs[:WORST]],
        "worst_memory": [asdict(cost) for cost in sorted(costs, key=lambda cost: -cost.memory_mib)[:WORST]],
        "normal": {
            "alone_p99_ms": round(alone.ms(99), 1),
            "p99_ms": round(during.ms(99), 1),
            "sent": sent,
            "failed": alone.failed + during.failed,
        },
        "slow": slow,
        "seeds": [1],
        "hardware": hardware() | {"load_1_min": round(load, 1)},
    }
    write_result(given.out, result)
    print(render(result))


if __name__ == "__main__":
    main()
