"""The price of general serving: `python -m benchmarks.serving.general`.

SS4Rec has a serving form of its own: it keeps a state for each user and makes one step for a request. A model without such a form is
served by its own torch pass over the user's latest events, for each request. Both are asked here on the same machine, in the same
run: the example plugin's SASRec with 50 and with 200 events, RecBole's BPR, which only reads who asks, and SS4Rec. All models have
their initial weights, because speed does not depend on training. One worker answers, with the answer cache off.

The answers per second are those of connections that ask again as soon as they are answered. The latency is that of requests at a
steady rate, which arrive by a Poisson process. It counts from the arrival.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import hardware, skip_without, write_result
from benchmarks.serving.load import cpu_seconds
from benchmarks.serving.open_load import Measured, http_request, send_at_rate
from benchmarks.serving.world import NAME, drawn_events, fill_redis, free_port, histories, publish_model, redis_server, running
from configs.kinds import ModelSpec, register, spec_of
from configs.serving import ServingSettings, StateSettings
from configs.settings import SS4RecSettings
from infra.pages import markdown_table
from infra.storage.local import LocalStore
from models.recommender import Recommender
from serving.engine import ServedModel

EXAMPLE = Path(__file__).parents[2] / "examples" / "sasrec_plugin"
PLUGIN = "sasrec_plugin:SPEC"
WARM = 200  # requests before a measurement


@dataclass(frozen=True)
class Kind:
    """A served model with initial weights."""

    name: str
    reads: str
    make: Callable[[int, int], Recommender]


def main() -> None:
    """Serve each model in turn, run the loads, and write and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=62_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--distinct", type=int, default=2000, help="users whose histories differ; the other users get copies")
    parser.add_argument("--seconds", type=float, default=8, help="seconds per measurement, after 2 to warm up")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=int, default=50, help="requests per second of the steady load")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/general_serving.json"))
    given = parser.parse_args()
    skip_without("redis-server")
    rows: list[dict[str, Any]] = []
    with example(), tempfile.TemporaryDirectory(prefix="recsys-general-") as name, ExitStack() as stack:
        root = Path(name)
        people = histories(given.distinct, given.items, given.seed)
        address = stack.enter_context(redis_server(free_port()))
        for number, kind in enumerate(kinds()):
            folder, store = root / f"model-{number}", LocalStore(root / f"store-{number}")
            version = publish_model(store, folder, kind.make(given.items, given.seed), given.items, given.seed)
            model = ServedModel.load(folder, version, 1, StateSettings().events)
            fill_redis(address, version, model, given.users, people)
            settings = ServingSettings.model_validate({
                "model_name": NAME, "store": {"url": f"file:{store.folder}"}, "work_dir": str(root / "served"), "port": free_port(),
                "batch": {"cache_s": 0}, "redis": {"url": address},
            })  # fmt: skip
            with running(settings, log=root / "server.log") as process:
                rows.append({"model": kind.name, "reads": kind.reads, **_measured(settings.port, process.pid, given)})
                print(rows[-1], flush=True)
    result = {
        "items": given.items,
        "users": given.users,
        "mean_events": round(float(np.mean([len(person.items) for person in people])), 1),
        "connections": given.connections,
        "rate": given.rate,
        "seconds": given.seconds,
        "seeds": [given.seed],
        "hardware": hardware(),
        "rows": rows,
    }
    write_result(given.out, result)
    print(render(result))


def kinds() -> list[Kind]:
    """Return the models that are served."""
    return [
        Kind("SS4Rec, its own form", "a state", _ss4rec),
        Kind("SASRec, general form", "the latest 50 events", lambda items, seed: _sasrec(items, seed, 50)),
        Kind("SASRec, general form", "the latest 200 events", lambda items, seed: _sasrec(items, seed, 200)),
        Kind("RecBole's BPR, general form", "the user", _bpr),
    ]


@contextmanager
def example() -> Iterator[ModelSpec]:
    """Install the example plugin for this process and its servers, in a folder that goes with the block. Yields its spec."""
    before = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory(prefix="recsys-plugin-") as site:
        shutil.copytree(EXAMPLE, site, dirs_exist_ok=True)
        installed = Path(site) / "sasrec_plugin-1.0.0.dist-info"
        installed.mkdir()
        (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: sasrec-plugin\nVersion: 1.0.0\n")
        (installed / "entry_points.txt").write_text("[recsys.models]\nmy_sasrec = sasrec_plugin:SPEC\n")
        sys.path.append(site)
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in (before, site) if path)
        try:
            register([PLUGIN])
            yield spec_of("my_sasrec")
        finally:
            sys.path.remove(site)
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    head = [
        f"{result['items']:,} items, {result['users']:,} users, one worker",
        "a request reads",
        f"answers/s, {result['connections']} connections",
        "CPU ms each",
        f"p50 / p99 at {result['rate']}/s, ms",
        "load",
    ]
    rows = []
    for row in result["rows"]:
        latency, load = f"{row['p50']:.1f} / {row['p99']:.1f}", f"{row['load_1_min']:.1f}"
        rows.append([row["model"], row["reads"], f"{row['answers_s']:,.0f}", f"{row['cpu_ms']:.2f}", latency, load])
    return markdown_table(head, rows)


def _measured(port: int, pid: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return the greatest throughput, its CPU time, and the latency at a steady rate."""
    rng = random.Random(given.seed)

    def request() -> bytes:
        return http_request("/v1/recommendations", b'{"user_id":%d,"k":10}' % rng.randrange(given.users))

    def send(requests: float, rate: float, connections: int) -> Measured:
        sent = send_at_rate(port, request, rate=rate, seconds=max(requests, 1) / rate, connections=connections, seed=given.seed)
        if sent.failed:
            raise SystemExit(f"{sent.failed} requests failed.")
        return sent

    at_once = 1e9  # all requests are due at once, so a connection asks again as soon as it is answered
    warm = send(WARM, at_once, given.connections)
    load, cpu = os.getloadavg()[0], cpu_seconds(pid)
    most = send(warm.rate * given.seconds, at_once, given.connections)
    cpu = cpu_seconds(pid) - cpu
    steady = send(given.rate * given.seconds, given.rate, 64)
    return {
        "answers_s": round(most.rate, 1),
        "cpu_ms": round(1000 * cpu / len(most.latencies), 3),
        "p50": round(steady.ms(50), 2),
        "p99": round(steady.ms(99), 2),
        "load_1_min": round(load, 1),
    }


def _ss4rec(items: int, seed: int) -> Recommender:
    import torch

    from models.ss4rec import SS4Rec

    model = SS4Rec(SS4RecSettings(device="cpu"))
    catalogue, train = drawn_events(items, seed)
    model._take_vocabulary(catalogue, train)
    torch.manual_seed(seed)
    model._network = model._untrained().eval()
    return model


def _sasrec(items: int, seed: int, length: int) -> Recommender:
    import torch

    from models.kinds import recommender_class

    spec = spec_of("my_sasrec")
    model: Any = recommender_class(spec)(spec.settings.model_validate({"max_length": length}))
    catalogue, train = drawn_events(items, seed)
    torch.manual_seed(seed)
    model._build(catalogue)
    model._network.popular += torch.from_numpy(np.bincount(train.item_ids, minlength=items + 1)[1:]).log1p()
    made: Recommender = model
    return made


def _bpr(items: int, seed: int) -> Recommender:
    import torch

    from models.recbole_bridge import RecBoleModel, RecBoleSettings

    model = RecBoleModel(RecBoleSettings(model="BPR", device="cpu"))
    catalogue, train = drawn_events(items, seed)
    torch.manual_seed(seed)
    counts = np.bincount(train.item_ids, minlength=items + 1)[1:]
    model._know(catalogue, counts, np.arange(1, items + 1), np.arange(100_000))
    model._events = pd.DataFrame()
    model._network = model._untrained()
    return model


if __name__ == "__main__":
    main()
