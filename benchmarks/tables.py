"""Generate the tables of docs/benchmarks from benchmarks/results: `python -m benchmarks.tables`.

Without options, it prints all tables. A document marks the place of a table with two lines:

    <!-- table: speed -->
    <!-- end -->

`--write` fills the tables in place. `--check` exits with an error if a table differs from the results. Both take documents and folders
of documents, by default docs/benchmarks.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.markdown import data
from benchmarks.pipeline_tables import etl_movielens, increment, newcomer, rollback, serving, serving_mixed
from benchmarks.training_tables import cpu_speed, parity, scale, speed
from infra.pages import markdown_table

__all__ = ["PAGES", "RESULTS", "TABLES", "TableError", "drifted", "filled", "main", "table"]

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parents[1] / "docs" / "benchmarks"
MARKED = re.compile(r"(?P<head><!-- table: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(?P<tail><!-- end -->)", re.DOTALL)
Result = dict[str, Any]


class TableError(Exception):
    """A requested table cannot be generated. The message gives the reason."""


@dataclass(frozen=True)
class Table:
    """How to turn a result file into Markdown."""

    file: str
    command: str
    render: Callable[[Result], str]


def table(name: str, results: Path = RESULTS) -> str:
    """Return the Markdown of one table, followed by a line that states how it was measured.

    Raises:
        TableError: the table is unknown, or there is no result for it.
    """
    if name not in TABLES:
        raise TableError(f"There is no table {name!r}. Available tables: {', '.join(TABLES)}.")
    known = TABLES[name]
    path = results / known.file
    if not path.exists():
        raise TableError(f"The table {name} needs {path}, which `{known.command}` writes.")
    result = json.loads(path.read_text(encoding="utf-8"))
    _refuse_mixed(name, result)
    # The first results did not name the commit that measured them, only the commit that recorded them is known.
    how = result.get("measured") or {"command": known.command, **result["recorded"]}
    commit = f"{'Commit' if 'measured' in result else 'Recorded in commit'} {_short(how['commit'])}"
    return f"{known.render(result)}\n\n{_measured(result)} {commit}, {how['date']}: `{how['command']}`\n"


def _short(commit: str) -> str:
    return commit[:7] + (" with changes" if commit.endswith("+") else "")


def _refuse_mixed(name: str, result: Result) -> None:
    runs = result.get("runs", [])
    commits = (
        {_short(run["commit"]) if "commit" in run else "an unknown commit" for run in runs} if isinstance(runs, list) else set()
    )
    if len(commits) > 1:
        found = ", ".join(sorted(commits))
        raise TableError(f"The runs of the table {name} are of different code ({found}). Repeat all of them with one commit.")


def filled(document: str, results: Path = RESULTS) -> str:
    """Return the document with every marked table generated from the results.

    Raises:
        TableError: a table cannot be generated, or a mark is not closed.
    """
    if len(re.findall(r"^<!-- table:", document, re.MULTILINE)) != len(MARKED.findall(document)):
        raise TableError("A line <!-- table: NAME --> has no line <!-- end --> before the next one.")
    return MARKED.sub(lambda mark: f"{mark['head']}\n{table(mark['name'], results)}\n{mark['tail']}", document)


def drifted(document: str, results: Path = RESULTS) -> list[str]:
    """Return the names of the marked tables that differ from the results."""
    pairs = zip(MARKED.finditer(document), MARKED.finditer(filled(document, results)), strict=True)
    return [was["name"] for was, wanted in pairs if was["body"] != wanted["body"]]


def main() -> None:
    """Print every table that has a result, or fill or check a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", type=Path, nargs="*", metavar="DOCUMENT")
    where.add_argument("--check", type=Path, nargs="*", metavar="DOCUMENT")
    given = parser.parse_args()
    try:
        if given.write is None and given.check is None:
            for name, known in TABLES.items():
                if (given.results / known.file).exists():
                    print(f"<!-- table: {name} -->\n\n{table(name, given.results)}\n<!-- end -->\n")
        elif given.check is not None:
            _check(_documents(given.check), given.results)
        else:
            _write(_documents(given.write), given.results)
    except TableError as error:
        raise SystemExit(str(error)) from None


def _documents(given: list[Path]) -> list[Path]:
    """Return the documents, with those of each folder."""
    return [path for one in given or [PAGES] for path in (sorted(one.glob("*.md")) if one.is_dir() else [one])]


def _check(documents: list[Path], results: Path) -> None:
    for document in documents:
        if names := drifted(document.read_text(encoding="utf-8"), results):
            raise SystemExit(
                f"{document} differs from the results in: {', '.join(names)}. Run `python -m benchmarks.tables --write {document}`."
            )


def _write(documents: list[Path], results: Path) -> None:
    """Fill the tables of all documents, or change none of them."""
    contents = [filled(document.read_text(encoding="utf-8"), results) for document in documents]
    for document, content in zip(documents, contents, strict=True):
        partial = document.with_name(document.name + ".partial")
        partial.write_text(content, encoding="utf-8")
        partial.replace(document)


def _measured(result: Result) -> str:
    """Return the data, protocol, seeds, hardware and versions, as far as the result contains them."""
    rows = result.get("rows", [])
    sources = {row["data"] for row in [result, *(rows.values() if isinstance(rows, dict) else rows)] if "data" in row}
    said = [data(source, result.get("file")) for source in sorted(sources)]
    if "protocol" in result:
        said.append(f"`{result['protocol']}`")
    if "seeds" in result or "seed" in result:
        seeds = result.get("seeds") or [result["seed"]]
    else:
        seeds = sorted({run["seed"] for run in result.get("runs", [])})
    if seeds:
        said.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    machine = result["hardware"]
    cores = f"{machine['threads']} of {machine['cores']}" if "threads" in machine else str(machine["cores"])
    where = [
        *([f"{machine.get('gpus', 'one')} {machine['gpu']}"] if "gpu" in machine else []),
        f"{machine['cpu']}, {cores} cores",
    ]
    versions = [f"{name} {machine[name]}" for name in ("torch", "triton") if name in machine]
    return f"{'; '.join(part for part in (', '.join(said), *where, ', '.join(versions)) if part)}."


def _mean(value: dict[str, float | None]) -> str:
    return f"{value['mean']:.4f}" + (f" ± {value['sd']:.4f}" if value["sd"] is not None else "")


def _ss4rec_quality(result: Result) -> str:
    head = [
        "protocol",
        "variant",
        *(f"{seen} {name}" for seen in ("unmasked", "masked") for name in ("HR@10", "NDCG@10", "MRR@10")),
    ]
    keys = [f"{seen} {name}" for seen in ("unmasked", "masked") for name in ("hr@10", "ndcg@10", "mrr@10")]
    rows = []
    for row in result["rows"]:
        counts = [str(len(row["seeds"])), f"{row['epochs']:.0f}", "" if row["seconds"] is None else f"{row['seconds']:.0f}"]
        rows.append([f"`{row['protocol']}`", row["variant"], *(_mean(row[key]) for key in keys), *counts])
    return markdown_table([*head, "seeds", "epochs", "fit, s"], rows)


def _headline(result: Result) -> str:
    from benchmarks.ranking.comparison import headline

    return headline(result)


def _audit(result: Result) -> str:
    from benchmarks.ranking.audit import render
    from tasks.evaluation.protocol_audit import AuditRow

    return render([AuditRow(**row) for row in result["rows"]])


def _gate_retrainings(result: Result) -> str:
    from benchmarks.pipeline.gate import render_years

    return render_years(result)


def _bodies(result: Result) -> str:
    from benchmarks.serving.bodies import render

    return render(result | {"worst": result["worst"][:5]})


def rendered_by(module: str) -> Callable[[Result], str]:
    """Return a function that renders a result with a benchmark's own `render`. The benchmark is imported when it is called."""

    def render(result: Result) -> str:
        text: str = importlib.import_module(module).render(result)
        return text

    return render


TABLES: dict[str, Table] = {
    "newcomer": Table("newcomer.json", "python -m benchmarks.newcomer", newcomer),
    "quality": Table("quality.json", "python -m benchmarks.ranking.quality", rendered_by("benchmarks.ranking.quality")),
    "headline": Table("peers.json", "python -m benchmarks.ranking.peers", _headline),
    "ss4rec-quality": Table("ss4rec_quality.json", "python -m benchmarks.ranking.ss4rec_quality", _ss4rec_quality),
    "classics": Table("classics.json", "python -m benchmarks.ranking.classics", rendered_by("benchmarks.ranking.classics")),
    "ratings": Table("ratings.json", "python -m benchmarks.ranking.ratings", rendered_by("benchmarks.ranking.ratings")),
    "search": Table("search.json", "python -m benchmarks.ranking.search", rendered_by("benchmarks.ranking.search")),
    "search-further": Table(
        "search_further.json", "python -m benchmarks.ranking.search", rendered_by("benchmarks.ranking.search")
    ),
    "peers-temporal": Table(
        "peers_temporal.json", "python -m benchmarks.ranking.peers", rendered_by("benchmarks.ranking.comparison")
    ),
    "cost": Table("cost.json", "python -m benchmarks.ranking.cost", rendered_by("benchmarks.ranking.cost")),
    "peers": Table("peers.json", "python -m benchmarks.ranking.peers", rendered_by("benchmarks.ranking.comparison")),
    "peers-further": Table(
        "peers_further.json", "python -m benchmarks.ranking.peers", rendered_by("benchmarks.ranking.comparison")
    ),
    "peers-distilled": Table(
        "peers_distilled.json", "python -m benchmarks.ranking.peers", rendered_by("benchmarks.ranking.comparison")
    ),
    "peers-distilled-protocols": Table(
        "peers_distilled_protocols.json", "python -m benchmarks.ranking.peers", rendered_by("benchmarks.ranking.comparison")
    ),
    "speed": Table("speed.json", "python -m benchmarks.training.speed", speed),
    "epochs": Table("epochs.json", "python -m benchmarks.training.speed", speed),
    "replicas": Table("replicas.json", "python -m benchmarks.training.replicas", rendered_by("benchmarks.training.replicas")),
    "cpu-speed": Table("cpu_speed.json", "python -m benchmarks.training.cpu_speed", cpu_speed),
    "scale": Table("scale.json", "python -m benchmarks.training.scale", scale),
    "etl": Table("etl.json", "python -m benchmarks.pipeline.etl", rendered_by("benchmarks.pipeline.etl")),
    "etl-movielens": Table("etl_releases.json", "python -m benchmarks.pipeline.etl --sizes", etl_movielens),
    "text-ids": Table("text_ids.json", "python -m benchmarks.pipeline.text_ids", rendered_by("benchmarks.pipeline.text_ids")),
    "export": Table("export.json", "python -m benchmarks.pipeline.export", rendered_by("benchmarks.pipeline.export")),
    "audit": Table("audit.json", "python -m benchmarks.ranking.audit", _audit),
    "gate": Table("gate.json", "python -m benchmarks.pipeline.gate", rendered_by("benchmarks.pipeline.gate")),
    "gate-retrainings": Table("gate.json", "python -m benchmarks.pipeline.gate", _gate_retrainings),
    "gate-years": Table(
        "gate_years.json", "python -m benchmarks.pipeline.gate_years", rendered_by("benchmarks.pipeline.gate_years")
    ),
    "drift": Table("drift.json", "python -m benchmarks.pipeline.drift", rendered_by("benchmarks.pipeline.drift")),
    "drift-power": Table(
        "drift_power.json", "python -m benchmarks.pipeline.drift_power", rendered_by("benchmarks.pipeline.drift_power")
    ),
    "busy-machine": Table(
        "busy_machine.json", "python -m benchmarks.pipeline.busy_machine", rendered_by("benchmarks.pipeline.busy_machine")
    ),
    "rollback": Table("rollback.json", "python -m benchmarks.pipeline.rollback", rollback),
    "replay": Table("replay.json", "python -m benchmarks.pipeline.replay", rendered_by("benchmarks.pipeline.replay")),
    "replay-warm": Table(
        "replay_warm.json", "python -m benchmarks.pipeline.replay --study warm", rendered_by("benchmarks.pipeline.replay")
    ),
    "replay-refit": Table(
        "replay_refit.json", "python -m benchmarks.pipeline.replay --study refit", rendered_by("benchmarks.pipeline.replay")
    ),
    "increment": Table("increment.json", "python -m benchmarks.pipeline.increment", increment),
    "serving": Table("serving.json", "python -m benchmarks.serving.load", serving),
    "serving-mixed": Table("serving_mixed.json", "python -m benchmarks.serving.mixed", serving_mixed),
    "kernels": Table("kernels.json", "python -m benchmarks.training.kernels", rendered_by("benchmarks.training.kernels")),
    "parity": Table("parity.json", "python -m benchmarks.training.parity", parity),
    "general-serving": Table(
        "general_serving.json", "python -m benchmarks.serving.general", rendered_by("benchmarks.serving.general")
    ),
    "rules": Table("rules.json", "python -m benchmarks.serving.rules", rendered_by("benchmarks.serving.rules")),
    "top-k": Table("top_k.json", "python -m benchmarks.serving.top_k", rendered_by("benchmarks.serving.top_k")),
    "tracing": Table("tracing.json", "python -m benchmarks.tracing", rendered_by("benchmarks.tracing")),
    "bodies": Table("bodies.json", "python -m benchmarks.serving.bodies", _bodies),
    "first-calls": Table(
        "first_calls.json", "python -m benchmarks.serving.first_calls", rendered_by("benchmarks.serving.first_calls")
    ),
    "framework": Table("framework.json", "python -m benchmarks.serving.framework", rendered_by("benchmarks.serving.framework")),
    "redis-bytes": Table(
        "redis_bytes.json", "python -m benchmarks.serving.redis_bytes", rendered_by("benchmarks.serving.redis_bytes")
    ),
    "rollouts": Table("rollouts.json", "python -m benchmarks.serving.rollouts", rendered_by("benchmarks.serving.rollouts")),
    "experiments": Table(
        "experiments.json", "python -m benchmarks.serving.experiments", rendered_by("benchmarks.serving.experiments")
    ),
    "peeking": Table("peeking.json", "python -m benchmarks.pipeline.peeking", rendered_by("benchmarks.pipeline.peeking")),
    "ratios": Table("ratios.json", "python -m benchmarks.ratios", rendered_by("benchmarks.ratios.comparison")),
    "year": Table("year.json", "python -m benchmarks.year", rendered_by("benchmarks.year.__main__")),
    "parity-cpu": Table("parity_cpu.json", "python -m benchmarks.training.parity --device cpu", parity),
}


if __name__ == "__main__":
    main()
