"""Commands `recsys gpu`: what is rented, and the end of what nobody wants any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flows.console import Json, table, write_json

if TYPE_CHECKING:
    from infra.runpod.account import Rented

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="GPUs that are rented on RunPod. The key: RUNPOD_API_KEY, or the block RunPod Credentials."
)


@app.command()
def ls(json_file: Json = None) -> None:
    """List the account's pods: whose they are, what they cost."""
    import asyncio

    from infra.runpod.account import rented

    rows = asyncio.run(rented())
    write_json(json_file, [row.to_dict() for row in rows])
    _print(rows)
    typer.echo(f"{len(rows)} pods, {sum(row.usd_per_hour for row in rows):.2f} USD per hour")


@app.command()
def reap(json_file: Json = None) -> None:
    """Delete the pods of this Prefect server's pools that no run wants, or that are too old, and mark runs whose pod is gone.

    The workers do so all the time; this is for when none is at work.
    """
    import asyncio

    from infra.runpod.account import sweep

    typer.echo("Looking at the pods three times, as one look may be wrong ...", err=True)
    ended = asyncio.run(sweep())
    write_json(json_file, [row.to_dict() for row in ended])
    _print(ended)
    typer.echo(f"{len(ended)} pods deleted")


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
