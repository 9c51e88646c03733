"""Helpers of every benchmark: describe the hardware, write the result atomically, and skip if it cannot run."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["SKIPPED", "hardware", "skip", "write_json"]

SKIPPED = 77
"""Exit code of a benchmark that lacks a requirement (a GPU, a package, its data). 77 is customary for skipped tests."""


def skip(reason: str) -> NoReturn:
    """Print one sentence and exit with the code SKIPPED."""
    print(f"Skipped: {reason}", file=sys.stderr)
    raise SystemExit(SKIPPED)


def hardware() -> dict[str, Any]:
    """Return the processor, its cores and, if there is one, the GPU with its software versions."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    found: dict[str, Any] = {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        import triton

        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "triton": triton.__version__}
    return found


def write_json(path: Path, result: Any) -> None:
    """Write `result` atomically: `path` holds either the complete new result or its previous content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
