"""How much of Redis a user takes: `python -m benchmarks.serving.redis_bytes`.

A Redis of its own is filled by the code of the servers with the events of so many users, and with a state each, and asked for its memory
before and after. The last column is how many such users fit the bound that compose gives Redis. Beyond that Redis drops the users who
were away the longest (`volatile-lru`), who are then known by the dataset only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import redis

from benchmarks.report import hardware, skip_without, write_result
from benchmarks.serving.world import free_port, redis_server
from configs.serving import RedisSettings, StateSettings
from infra.pages import markdown_table
from serving.state import entry, key_of
from serving.state.redis_store import RedisStates
from serving.state.store import STATE_HEAD
from serving.state.user_log import HEAD

__all__ = ["measure", "render"]

EVENTS = (10, 50, 250, 1000)
STATES = (0, 16_384)  # bytes; 0: none is kept, as for a model without one or a week after the user's last request
BOUND = 512 << 20  # infra/compose.yaml
START = 1_790_000_000
AT_ONCE = 100


def measure(address: str, users: int, events: int, state: int) -> float:
    """Return the bytes that a user takes, in a Redis that is filled with so many. The users have equal events."""
    server = redis.Redis.from_url(address)
    store = RedisStates(RedisSettings(url=address, timeout_s=60), StateSettings())
    log = b"".join(entry(number, START + number, key_of(None, number, START + number)) for number in range(events))
    _fill(store, range(1), log, state)  # what Redis keeps once, for the connection and the scripts
    server.flushall()
    before = int(server.info("memory")["used_memory"])
    for first in range(0, users, AT_ONCE):
        _fill(store, range(first, min(first + AT_ONCE, users)), log, state)
    return (int(server.info("memory")["used_memory"]) - before) / users


def _fill(store: RedisStates, users: range, log: bytes, state: int) -> None:
    found = store.append([(user, log) for user in users], "version")
    if state:
        numbers = bytes(state - STATE_HEAD.size)
        states = [STATE_HEAD.pack(*HEAD.unpack_from(each.log), 1, START) + numbers for each in found]
        store.write(list(zip(users, states, strict=True)), "version")


def render(result: dict[str, Any]) -> str:
    """Return the table."""
    rows = [
        [
            f"{row['events']:,}",
            f"{row['state']:,}" if row["state"] else "none",
            f"{row['bytes']:,.0f}",
            f"{BOUND / row['bytes']:,.0f}",
        ]
        for row in result["rows"]
    ]
    return markdown_table(["events", "bytes of the state", "bytes of Redis a user", "users in 512 MiB"], rows)


def main() -> None:
    """Measure, print the table, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/redis_bytes.json"))
    options = parser.parse_args()
    skip_without("redis-server")
    with redis_server(free_port()) as address:
        rows = [
            {"events": events, "state": state, "bytes": measure(address, options.users, events, state)}
            for events in EVENTS
            for state in STATES
        ]
    result = {"rows": rows, "users": options.users, "hardware": hardware()}
    print(render(result))
    write_result(options.out, result)


if __name__ == "__main__":
    main()
