"""What tracing costs a server: `python -m benchmarks.tracing`.

Three servers of one worker each have the same model and the same users, and keep states in memory. One is not traced, one traces each
request, and one traces one request in twenty. They send to a receiver on this machine, which throws the spans away. The servers are asked
in turn, over eight connections, several times. Each row is the median ratio of the CPU time of the server's process for a request.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.report import hardware, skip, skip_without, write_result
from benchmarks.serving.load import Load, fill_by_events
from benchmarks.serving.world import NAME, free_port, histories, publish_drawn, running
from configs.serving import ServingSettings
from infra.pages import markdown_table
from infra.storage.local import LocalStore

__all__ = ["main", "render"]

SERVERS = {"off": None, "all": "1.0", "share": "0.05"}
KINDS = {"cached": "the same question again", "state": "a user with a history, state kept", "events": "event"}
SEED = 1


def render(result: dict[str, Any]) -> str:
    """Return the table of the result as Markdown."""
    head = [
        f"{result['items']:,} items, {result['users']:,} users; CPU ms a request",
        "not traced",
        "each is traced",
        "one in 20 is traced",
    ]
    rows = []
    for kind, name in KINDS.items():
        row = result["rows"][kind]
        more = [f"{row[server]['cpu_ms']:.3f} ({row[server]['ratio']:.2f} times)" for server in ("all", "share")]
        rows.append([name, f"{row['off']['cpu_ms']:.3f}", *more])
    return f"{markdown_table(head, rows)}\n\nMedian of {result['rounds']} rounds of {result['seconds']} s."


@contextmanager
def _receiver() -> Iterator[str]:
    """Run a receiver that throws everything away, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Start the servers, ask them in turn, and write and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1682)  # as in ML-100K
    parser.add_argument("--users", type=int, default=943)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="seconds per measurement, after 2 to warm up")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tracing.json"))
    given = parser.parse_args()
    skip_without("wrk")
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        skip("opentelemetry-sdk is not installed.")
    with tempfile.TemporaryDirectory(prefix="recsys-tracing-") as name, ExitStack() as stack:
        root, receiver = Path(name), stack.enter_context(_receiver())
        publish_drawn(LocalStore(root / "store"), root / "model", given.items, SEED)
        base = {"model_name": NAME, "store": {"url": f"file:{root}/store"}, "work_dir": str(root / "served")}
        servers: dict[
            tuple[str, bool], tuple[int, int]
        ] = {}  # a port and a process, by what is traced and whether answers are cached
        people = histories(given.users, given.items, SEED)
        for traced, share in SERVERS.items():
            for variable in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"):
                os.environ.pop(variable, None)
            if share is not None:
                os.environ |= {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
                    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                    "OTEL_TRACES_SAMPLER_ARG": share,
                }
            for cached in (False, True):
                port = free_port()
                settings = ServingSettings.model_validate(base | {"port": port, "batch": {"cache_s": 3600 if cached else 0}})
                process = stack.enter_context(running(settings, log=root / f"{traced}-{cached}.log"))
                fill_by_events(port, people, given.users)
                servers[traced, cached] = port, process.pid
        load = Load(root, given.users, given.items, given.seconds, connections=8, seed=SEED)
        found: dict[tuple[str, str], list[float]] = {(kind, traced): [] for kind in KINDS for traced in SERVERS}
        for number in range(given.rounds):
            for kind, traced in found:
                port, process_id = servers[traced, kind == "cached"]
                row = load.run("state" if kind == "cached" else kind, port, process_id)
                assert row["errors"] == 0, (kind, traced, row)
                found[kind, traced].append(row["cpu_ms"])
            print(f"round {number + 1}: { ({' '.join(key): times[-1] for key, times in found.items()}) }", flush=True)
    rows = {
        kind: {
            traced: {
                "cpu_ms": round(statistics.median(found[kind, traced]), 3),
                "ratio": round(
                    statistics.median(own / off for own, off in zip(found[kind, traced], found[kind, "off"], strict=True)), 2
                ),
                "rounds": found[kind, traced],
            }
            for traced in SERVERS
        }
        for kind in KINDS
    }
    shape = {"items": given.items, "users": given.users, "rounds": given.rounds, "seconds": given.seconds, "seeds": [SEED]}
    write_result(given.out, shape | {"hardware": hardware(), "rows": rows})
    print(render(shape | {"hardware": hardware(), "rows": rows}))


if __name__ == "__main__":
    main()
