"""Program that writes one run to Weights & Biases, outside the process of the run. It reads JSON lines from stdin.

`{"init": {...}}` comes first, then `{"epoch": {...}}` rows, `{"summary": {...}}`, and `{"finish": exit code}`. If the input ends
without a finish, the run was killed. No module of the product is imported, and whatever wandb does to a process affects only this
one.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO


def main(lines: TextIO, timeout_s: float) -> None:
    """Write the contents of `lines`. After they end, the process lives at most `timeout_s`, as its parent may be dead."""
    run: Any = None
    exit_code = 1
    try:
        for line in lines:
            ((kind, value),) = json.loads(line).items()
            if kind == "init":
                run = _start(value)
            elif kind == "epoch":
                run.log(value)
            elif kind == "summary":
                run.summary.update(value)
            else:
                exit_code = value
                break
    finally:
        watchdog = threading.Timer(timeout_s, os._exit, [1])
        watchdog.daemon = True
        watchdog.start()
    if run is not None:
        run.finish(exit_code=exit_code)


def _start(init: dict[str, Any]) -> Any:
    folder = Path(init["dir"]) / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):  # otherwise wandb uses a temporary folder
        raise PermissionError(f"{folder} is not writable")
    os.environ |= {f"WANDB_{kind}_DIR": str(folder / kind.lower()) for kind in ("CACHE", "DATA", "ARTIFACT")}
    import wandb

    run = wandb.init(
        **init,
        settings=wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, disable_job_creation=True, x_disable_stats=True
        ),
    )
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")
    return run


if __name__ == "__main__":
    try:
        main(sys.stdin, float(sys.argv[1]))
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
