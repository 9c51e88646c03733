"""Commands of pages that the test of pages does not run: why, and which test covers what they do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.blocks.shell import Command

__all__ = ["ELSEWHERE", "Elsewhere", "covered_by"]


@dataclass(frozen=True)
class Elsewhere:
    """Commands that match `pattern` need what a sandbox lacks. `test` covers them instead."""

    pattern: str
    reason: str
    test: str


ELSEWHERE = (
    Elsewhere(r"\$REPOSITORY|make retrain", "is README's first session, run by the test beside this one", "tests/benchmarks/test_newcomer.py"),
    Elsewhere(r"make (?!retrain|iam)", "installs packages, or runs the tests and checks themselves", "tests/blocks/test_blocks.py"),
    Elsewhere(r"apt-get|pre-commit", "changes the machine", "tests/blocks/test_blocks.py"),
    Elsewhere(r"pip install (?!.*plugin)", "installs packages that the tests have already", "tests/blocks/test_blocks.py"),
    Elsewhere(r"kubectl|infra/kubernetes", "needs a cluster", "tests/infra/kubernetes/test_overlays.py"),
    Elsewhere(r"docker|helm", "needs Docker", "tests/infra/test_production_files.py"),
    Elsewhere(r"(?:=|to )s3://|/data/|store\.endpoint|aws:kms", "needs a store or files of the reader", "tests/full/storage/test_s3_radosgw.py"),
    Elsewhere(r"python -m infra\.(?:backup|exporter)", "needs the reader's own store and servers", "tests/infra/backup/test_backup.py"),
    Elsewhere(r"aws cloudformation", "needs an account at AWS", "tests/infra/aws/test_template.py"),
    Elsewhere(r"ml-latest-small|ml-1m|ml-25m", "downloads a release", "tests/infra/test_download.py"),
    Elsewhere(r"RUNPOD|recsys-gpu|pools\.gpu_image|where=deployment|recsys gpu", "rents GPUs", "tests/full/runpod/test_training.py"),
    Elsewhere(r"tracking\.mlflow_uri", "needs a server of MLflow", "tests/tasks/tracking/test_mlflow.py"),
    Elsewhere(r"tracking\.mode=online|wandb", "needs an account at Weights & Biases", "tests/flows/test_tracking.py"),
    Elsewhere(r"scheduler_address|runner=dask|engine=dask", "needs a Dask cluster", "tests/full/test_dask_engine.py"),
    Elsewhere(r"postgresql://", "needs PostgreSQL", "tests/full/test_search_workers.py"),
    Elsewhere(r"redis://", "needs Redis", "tests/full/serving/test_serve_command.py"),
    Elsewhere(r"recsys study search", "takes minutes", "tests/flows/test_search.py"),
    Elsewhere(r"recsys study compare", "takes minutes", "tests/full/test_compare.py"),
    Elsewhere(r"recsys study replay", "takes minutes", "tests/full/test_replay.py"),
    Elsewhere(r"recsys study adopt", "needs a replay", "tests/tasks/replay/test_adoption.py"),
    Elsewhere(r"recsys demo", "needs a browser to be of use", "tests/full/serving/test_demo.py"),
    Elsewhere(r"recsys setup|prefect (?:server|worker)|PREFECT_API_URL", "needs a Prefect server of its own", "tests/full/prefect_server/test_setup.py"),
    Elsewhere(r"prefect deployment run", "needs a deployed flow", "tests/full/prefect_server/test_run_form.py"),
    Elsewhere(r"model promote latest$", "needs a version that nobody has approved in time", "tests/flows/test_approval.py"),
    Elsewhere(r"python -m benchmarks", "measures for minutes", "tests/benchmarks/test_commands.py"),
    Elsewhere(r"challenger=(?:recbole|my_sasrec|my_itemknn|mine)|-c mine\.yaml|,recbole\]|model check|_plugin", "installs a plugin", "tests/full/plugins/test_examples.py"),
    Elsewhere(r"challenger=(?:sasrec|gsasrec|esasrec|hstu|lrurec)", "trains for minutes", "tests/models/transformers/test_recommender.py"),
    Elsewhere(r"evidently ui", "is Evidently's own server", "tests/flows/test_monitor.py"),
    Elsewhere(r"recsys rollout (?!status)", "needs a rollout that is under way", "tests/flows/test_rollout.py"),
    Elsewhere(r"recsys (?:freeze|thaw)", "would keep the commands after it from promoting", "tests/flows/cli/test_operation.py"),
    Elsewhere(r"-c promotion", "waits for the answer of a person", "tests/flows/test_approval.py"),
    Elsewhere(r"recsys experiment|experiments\.yaml", "needs files of exposures and outcomes", "tests/flows/cli/test_experiment.py"),
    Elsewhere(r"FOLDER|VERSION|\d{8}T\d{6}Z|ADDRESS|ids\.txt|\.\.\.|orders\.|\b(?:bucket|registry|prefix)\b", "has names that the reader fills in", "tests/flows/cli/test_data.py"),
    Elsewhere(r"recsys data (?:compact|retry|remove|erase)", "changes a landed dataset", "tests/full/operation/test_weeks.py"),
)  # fmt: skip


def covered_by(command: Command) -> Elsewhere | None:
    """Return what covers a command that is not run, or None if it is run."""
    return next((each for each in ELSEWHERE if re.search(each.pattern, command.line)), None)
