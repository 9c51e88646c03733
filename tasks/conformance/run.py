"""Runs the checks of a kind in processes of their own, within a time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from configs.child_processes import child_environment
from configs.kinds import ModelSpec, plugins_in_use
from configs.settings import PromotionSettings
from infra.lifeline import lifeline
from tasks.conformance.findings import SAID, Finding
from tasks.conformance.process import MODEL, SCORES
from tasks.evaluation import check_folder

__all__ = ["check_kind"]


def check_kind(spec: ModelSpec, settings: Mapping[str, Any], seconds: float) -> list[Finding]:
    """Check a kind on invented data: its answers, its files, its training, and the gate's load check.

    Args:
        spec: The kind, registered in this process.
        settings: Settings that differ from the kind's defaults.
        seconds: For which the checks may take. What is running then is ended, and counts as a fault.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-check-") as name:
        folder, end = Path(name), time.monotonic() + seconds
        work = {"kind": spec.kind, "plugins": list(plugins_in_use()), "settings": dict(settings)}
        (folder / "work.json").write_text(json.dumps(work), encoding="utf-8")
        found = _run("train", folder, end, seconds)
        if (folder / SCORES).exists():
            found += _run("again", folder, end, seconds)
            found.append(_load_check(folder / MODEL))
    return found


def _run(part: Literal["train", "again"], folder: Path, end: float, seconds: float) -> list[Finding]:
    """Run one part in a process, and return its findings. One that was cut off is the last."""
    program = [sys.executable, "-m", "tasks.conformance.process", part, str(folder)]
    with lifeline() as held, (folder / f"{part}.log").open("wb") as log:
        try:
            status: int | None = subprocess.run(
                program,
                env=child_environment(threads=1),
                stdin=held,
                stdout=log,
                stderr=log,
                timeout=max(end - time.monotonic(), 1),
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
    path = folder / f"{part}.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    found = [Finding(**line) for line in lines if "check" in line]
    if not lines or "done" not in lines[-1]:
        begun = [line["begins"] for line in lines if "begins" in line]
        running = begun[-1] if len(begun) > len(found) else "The checks start"
        said = (folder / f"{part}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = f"; its last line of output was: {said[-1][:SAID]}" if said else ""
        ended = (
            f"It had not ended after {seconds:g} s." if status is None else f"Its process ended with the status {status}{last}."
        )
        found.append(Finding(running, False, ended))
    return found


def _load_check(folder: Path) -> Finding:
    """Run the load check that a version must pass before it is promoted."""
    what, settings = "A clean process loads and answers as the gate asks", PromotionSettings()
    found = check_folder(folder, settings)
    if not found.ok:
        return Finding(what, False, f"The gate's load check fails: {found.reason}.")
    for took, most, name in (
        (found.load_s, settings.max_load_s, "max_load_s"),
        (found.request_s, settings.max_request_s, "max_request_s"),
    ):
        if took is not None and took > most:
            return Finding(
                what, False, f"It takes {took:.2f} s of CPU time, above promotion.{name} ({most:g} s), even on invented data."
            )
    return Finding(what, True)
