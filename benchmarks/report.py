"""What every benchmark needs: describe the hardware and the code, write the result atomically, and skip if it cannot run."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from configs.cores import available_cores
from infra.registry import git_commit

__all__ = ["SKIPPED", "hardware", "measured", "refuse_mixed", "skip", "skip_without", "write_json", "write_result"]

SKIPPED = 77
"""Exit code of a benchmark that lacks a requirement (a GPU, a package, its data). 77 is customary for skipped tests."""


def skip(reason: str) -> NoReturn:
    """Print one sentence and exit with the code SKIPPED."""
    print(f"Skipped: {reason}", file=sys.stderr)
    raise SystemExit(SKIPPED)


def skip_without(*programs: str) -> None:
    """Skip the benchmark if one of the programs is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            skip(f"{program} is not installed.")


def hardware() -> dict[str, Any]:
    """Return the processor, its cores and, if there is one, the GPU with its software versions."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    found: dict[str, Any] = {
        "cpu": names[0] if names else platform.processor(),
        "cores": available_cores(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        import triton

        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "triton": triton.__version__}
    return found


def measured() -> dict[str, str]:
    """Return what reproduces a result: the commit of the code, the command line and the day.

    A commit with a trailing `+` had modified files, besides results of earlier benchmarks. Outside a repository, the commit is
    RECSYS_COMMIT, or "unknown".
    """
    main = sys.modules["__main__"].__spec__
    module = ["-m", main.name.removesuffix(".__main__")] if main is not None else [Path(sys.argv[0]).name]
    command = shlex.join(["python", *module, *_settings(sys.argv[1:])])
    return {
        "commit": git_commit(["benchmarks/results"]) or "unknown",
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _settings(arguments: list[str]) -> list[str]:
    """Return the arguments that decide the figures: without the place of the output, and without the folders of files."""
    places = {number for number, argument in enumerate(arguments) if argument == "--out"}
    kept = [argument for number, argument in enumerate(arguments) if not {number, number - 1} & places]
    return [_without_folder(argument) for argument in kept]


def _without_folder(argument: str) -> str:
    """Return `PATH` or `NAME=PATH` without the folder of the path."""
    name, sign, path = argument.rpartition("=")
    return f"{name}{sign}{Path(path).name}" if os.sep in path and Path(path).exists() else argument


def refuse_mixed(runs: list[dict[str, Any]], *, going_on: bool) -> None:
    """Refuse runs of different code in one table, because its rows are compared with each other. Exits with one sentence.

    Args:
        runs: Runs that are there. Each names its `commit`.
        going_on: Whether runs of the present code should be added.
    """
    commits = {str(run.get("commit", "an unknown commit")) for run in runs}
    if going_on and commits:
        commits.add(measured()["commit"])
    if len(commits) > 1:
        raise SystemExit(f"The runs would be of different code ({', '.join(sorted(commits))}): choose another --out.")


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result with what reproduces it, atomically."""
    write_json(path, result | {"measured": measured()})


def write_json(path: Path, result: Any) -> None:
    """Write `result` atomically: `path` holds either the complete new result or its previous content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
