"""Read what an offline run of Weights & Biases wrote, with wandb's own message definitions."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32_768  # bytes of a block in the LevelDB log format, in which wandb keeps its records
HEADER = 7  # bytes at the start of the file, and of each chunk: checksum, length, type


@dataclass
class OfflineRun:
    name: str = ""
    group: str = ""
    job: str = ""
    project: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def read_offline_runs(work_dir: Path) -> list[OfflineRun]:
    """Runs under a work_dir, in the order of their names."""
    files = (work_dir / "wandb").glob("offline-run-*/run-*.wandb")
    return sorted((_read(path) for path in files), key=lambda run: run.name)


def _read(path: Path) -> OfflineRun:
    from wandb.proto import wandb_internal_pb2

    found = OfflineRun()
    for content in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found.name, found.group, found.job = run.display_name, run.run_group, run.job_type
            found.project, found.tags = run.project, list(run.tags)
            found.config |= {item.key: json.loads(item.value_json) for item in run.config.update if not item.nested_key}
        elif kind == "history":
            items = record.history.item
            found.history.append({"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items})
        elif kind == "summary":
            found.summary |= {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.summary.update
            }
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def _records(data: bytes) -> Iterator[bytes]:
    place, partial = HEADER, b""
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        partial += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # whole, or last of several
            yield partial
            partial = b""
