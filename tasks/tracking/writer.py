"""Program that writes one run to a tracking service, outside the process of the run. It reads JSON lines from stdin.

`{"init": {...}}` comes first, then `{"epoch": {...}}` rows, `{"summary": {...}}`, and `{"finish": exit code}`. If the input ends
without a finish, the run was killed. `{"register": {...}}` needs no run: it brings the registry of models up to date. No module of the product is imported, and whatever a service's package does to a process affects
only this one.

    python -P writer.py wandb|mlflow TIMEOUT_S
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any, Protocol, TextIO


class Run(Protocol):
    """A run at a service."""

    def epoch(self, row: dict[str, float]) -> None: ...

    def summary(self, values: dict[str, Any]) -> None: ...

    def finish(self, exit_code: int) -> None: ...


def main(lines: TextIO, service: type[WandbRun] | type[MlflowRun], timeout_s: float) -> None:
    """Write the contents of `lines`. After they end, the process lives at most `timeout_s`, as its parent may be dead."""
    run: Run | None = None
    exit_code = 1
    try:
        for line in lines:
            ((kind, value),) = json.loads(line).items()
            if kind == "init":
                run = service(value)
            elif kind == "register":
                register(value)
            elif kind == "finish":
                exit_code = value
                break
            elif run is not None and kind == "epoch":
                run.epoch(value)
            elif run is not None:
                run.summary(value)
    finally:
        watchdog = threading.Timer(timeout_s, os._exit, [1])
        watchdog.daemon = True
        watchdog.start()
    if run is not None:
        run.finish(exit_code)


class WandbRun:
    """A run at Weights & Biases. `init` has the arguments of `wandb.init`."""

    def __init__(self, init: dict[str, Any]) -> None:
        folder = Path(init["dir"]) / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):  # otherwise wandb uses a temporary folder
            raise PermissionError(f"{folder} is not writable")
        os.environ |= {f"WANDB_{kind}_DIR": str(folder / kind.lower()) for kind in ("CACHE", "DATA", "ARTIFACT")}
        import wandb

        self._run = wandb.init(
            **init,
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, disable_job_creation=True, x_disable_stats=True
            ),
        )
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("*", step_metric="epoch")

    def epoch(self, row: dict[str, float]) -> None:
        self._run.log(row)

    def summary(self, values: dict[str, Any]) -> None:
        self._run.summary.update(values)

    def finish(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)


class MlflowRun:
    """A run in MLflow. `init` has `uri`, `experiment`, `name`, `tags` and `params`."""

    MOST_TEXT = 5000
    """Characters of a tag or parameter that MLflow keeps (8,000 and 6,000)."""
    MOST_PARAMS = 100
    """Parameters in one request."""

    def __init__(self, init: dict[str, Any]) -> None:
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(tracking_uri=init["uri"]), Metric
        experiment = self._experiment(init["experiment"])
        tags = {self._name(name): self._text(value) for name, value in init["tags"].items()}
        self._id = self._client.create_run(experiment, run_name=init["name"], tags=tags).info.run_id
        params = [Param(self._name(name), self._text(value)) for name, value in init["params"].items()]
        for start in range(0, len(params), self.MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + self.MOST_PARAMS])

    def epoch(self, row: dict[str, float]) -> None:
        step = int(row["epoch"])
        self._log({name: value for name, value in row.items() if name != "epoch"}, step)

    def summary(self, values: dict[str, Any]) -> None:
        numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        self._log(numbers, 0)
        for name in values.keys() - numbers.keys():
            self._client.set_tag(self._id, self._name(name), self._text(values[name]))

    def finish(self, exit_code: int) -> None:
        self._client.set_terminated(self._id, "FAILED" if exit_code else "FINISHED")

    def _experiment(self, name: str) -> str:
        """Return the id of the experiment, and create it if it does not exist."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another run has just created it
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _log(self, values: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._id, metrics=[self._metric(self._name(name), float(value), now, step) for name, value in values.items()]
        )

    @staticmethod
    def _name(name: str) -> str:
        """Return a name that MLflow takes: hr@10 becomes hr_at_10."""
        return re.sub(r"[^\w./ :-]", "_", name.replace("@", "_at_"))[:250]

    @classmethod
    def _text(cls, value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return text if len(text) <= cls.MOST_TEXT else f"{text[: cls.MOST_TEXT]}..."


def register(given: dict[str, Any]) -> None:
    """Register versions in MLflow that it does not know yet, and move the aliases.

    Args:
        given: `uri`, the name of the `model`, and `aliases`: from each alias to its version (`version`, `source`, `tags`), or None if
            nothing has that alias now.
    """
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client, name = MlflowClient(tracking_uri=given["uri"], registry_uri=given["uri"]), given["model"]
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name, description=given["description"])
    for alias, version in given["aliases"].items():
        if version is None:
            client.delete_registered_model_alias(name, alias)
            continue
        found = client.search_model_versions(f"name='{name}' and tags.recsys_version = '{version['version']}'")
        if found:
            number = found[0].version
        else:
            number = client.create_model_version(name, version["source"], tags=version["tags"], await_creation_for=0).version
        client.set_registered_model_alias(name, alias, number)


SERVICES: dict[str, type[WandbRun] | type[MlflowRun]] = {"wandb": WandbRun, "mlflow": MlflowRun}

if __name__ == "__main__":
    try:
        main(sys.stdin, SERVICES[sys.argv[1]], float(sys.argv[2]))
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
