"""`recsys gpu`: list rented GPU pods, and delete those that are no longer needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flows.cli.options import Json, needs_prefect, say, table, write_json
from flows.cli.terminal import current_display
from infra.progress import stage

if TYPE_CHECKING:
    from prefect_runpod import Rented

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="List and delete GPU pods rented on RunPod.\n\n"
    "The API key is read from RUNPOD_API_KEY or the RunPod Credentials block.\n\nExample: recsys gpu list",
)


@app.command("list")
def list_(json_file: Json = None) -> None:
    """List the account's pods with their runs and costs.

    Example: recsys gpu list
    """
    needs_prefect()
    import asyncio

    from infra.runpod import rented

    rows = asyncio.run(rented())
    write_json(json_file, [row.to_dict() for row in rows])
    _print(rows)
    say(f"{len(rows)} pods, {sum(row.usd_per_hour for row in rows):.2f} USD per hour")


@app.command()
def reap(json_file: Json = None) -> None:
    """Delete pods that no run needs, or that are too old.

    Only pods of this Prefect server's pools are deleted. Runs whose pod is missing are marked. The workers do all
    this continuously. Use the command if no worker is running.

    Example: recsys gpu reap
    """
    needs_prefect()
    import asyncio

    from infra.runpod import sweep

    current_display().message("Checking the pods three times, because a single check can be wrong.")
    with stage("pods"):
        ended = asyncio.run(sweep())
    write_json(json_file, [row.to_dict() for row in ended])
    _print(ended)
    say(f"{len(ended)} pods deleted")


def _print(rows: list[Rented]) -> None:
    if rows:
        table(
            ["pod", "status", "GPU", "USD/h", "age (s)", "USD", "pool", "flow run"],
            [
                [
                    row.pod,
                    row.status,
                    row.gpu,
                    f"{row.usd_per_hour:.2f}",
                    "" if row.age_s is None else f"{row.age_s:.0f}",
                    f"{row.usd:.4f}",
                    row.pool,
                    row.run,
                ]
                for row in rows
            ],
            whole="pod",
        )
