"""Replay of a dataset's past under several retraining policies: `python -m benchmarks.pipeline.replay`.

Runs `recsys study replay` with its default settings on MovieLens 100K. The seven months are cut into weekly slices, and the first
eight weeks are the base. Each later week passes through etl and monitoring with live ranking quality. If a policy asks for it,
training, evaluation, the gate and promotion follow.

`--study warm` plays ten weeks with a retraining after each: from scratch, from the champion's weights (`training.warm_start`), and
from scratch each fourth time. It compares live NDCG@10 and the seconds of the challengers' epochs. Both policies share the machine in
turns, so other work lengthens both.
`--study refit` plays one policy twice, with and without the training of each accepted challenger on all events (`training.refit`).

The measured seconds are those of the complete command in its own process, from its start to the page, including the Prefect
server that it starts. The CPU seconds of all its processes, which other work on the machine does not lengthen, and the load at
the start are reported too. The policies are compared on the same live requests, with intervals from a bootstrap over users.
`--page` keeps the page.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import hardware, write_result
from configs.loading import load_settings
from configs.studies import ReplaySettings
from infra.pages import markdown_table

__all__ = ["main", "render"]

BAR_S = 600
MONTHLY = ["slices=month", "base_slices=2", "live_requests=4000"]
OPEN = (
    "{rule: non-inferior, margin: 0.3, training_noise: 0, decisions_per_year: 1, anchor_days: 0, slice_margin: 0.5, slice_limit: 1, "
    "baselines: []}"
)
"""A gate that holds only what is clearly worse. The default one holds most trainings of a small model for reasons of chance, and would
hide what a training is worth."""
STUDIES: dict[str, list[str]] = {
    "policies": [],
    "refit": [*MONTHLY, "policies={judged: {every: month}, refit: {every: month, refit: true}}"],
    "warm": [
        "most_slices=10",
        f"promotion={OPEN}",
        "policies={scratch: {every: week}, warm: {every: week, warm_start: true, full_every: 100}, "
        "both: {every: week, warm_start: true, full_every: 4}}",
    ],
}
"""The settings of each study. `policies` compares the default policies."""


def main() -> None:
    """Replay, write the result and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=STUDIES, default="policies", help="which settings to replay")
    parser.add_argument("--set", action="append", default=[], help="a replay setting as key=value")
    parser.add_argument("--page", type=Path, help="save the page to this file")
    parser.add_argument("--out", type=Path, help="by default in benchmarks/results, after the study")
    given = parser.parse_args()
    named = "replay" if given.study == "policies" else f"replay_{given.study}"
    out, set_ = given.out or Path(f"benchmarks/results/{named}.json"), [*STUDIES[given.study], *given.set]
    settings = load_settings(ReplaySettings, None, set_)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="recsys-replay-") as folder:
        found, wall, cpu = _replayed(Path(folder), set_)
        if given.page is not None:
            given.page.write_bytes(Path(found["page"].removeprefix("file://")).read_bytes())
    result = {
        "data": found["source"],
        "protocol": settings.evaluation.protocol_id,
        "seeds": [settings.seed],
        "bootstrap_seed": settings.bootstrap_seed,
        "hardware": hardware() | {"load_1_min": round(load, 1)},
        "study": given.study,
        "settings": set_,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        **{name: found[name] for name in ("length", "scenario", "scenario_slice", "base_events", "requests", "users", "alpha")},
        **{name: found[name] for name in ("hourly_price", "trained", "slices", "policies", "differences")},
    }
    write_result(out, result)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the policies and their differences as Markdown."""
    slices = len(result["slices"])
    bar = result.get("study", "policies") == "policies"  # the other studies have none
    met = f" (to be below {BAR_S / 60:.0f}: {'met' if result['wall_s'] < BAR_S else '**missed**'})" if bar else ""
    head = f"{slices} {result['length']}s, {result['requests']:,} live requests"
    policies, pairs = [], []
    for policy in result["policies"]:
        promoted = sum(each["outcome"] == "promoted" for each in policy["trainings"])
        retrained = (
            f"{len(policy['trainings'])}: {promoted}, {len(policy['trainings']) - promoted}" if policy["trainings"] else "0"
        )
        cells = [
            f"{policy['name']}: {policy['rule']}",
            _interval(policy["ndcg"]),
            f"{policy['hr']['mean']:.4f}",
            f"{len(policy['drifts'])}",
            retrained,
            *([] if bar else [_epochs(policy, result["policies"][0])]),
            f"{policy['seconds']:.0f} s, {policy['cost']:.3f} USD",
        ]
        policies.append(cells)
    for pair in result["differences"]:
        cells = [
            f"{pair['a']} less {pair['b']}",
            _interval(pair["ndcg"], "+"),
            f"{pair['adjusted']:.4f}",
            "yes" if pair["shown"] else "no",
        ]
        pairs.append(cells)
    took = (
        f"The whole replay took {result['wall_s'] / 60:.1f} min{met} and {result['cpu_s'] / 60:.1f} min of CPU, "
        f"begun at a load of {result['hardware']['load_1_min']:.1f}; {result['trained']}; {result['hourly_price']:g} USD an hour."
    )
    columns = [f"policy, {head}", "NDCG@10, 95 % interval", "HR@10", "drifted", "retrained: promoted, held"]
    columns += [*([] if bar else ["the challengers' epochs: seconds, events learnt"]), "retraining, cost"]
    differences = markdown_table(["NDCG@10 of", "difference, 95 % interval", "p, Holm", "shown"], pairs)
    return f"{markdown_table(columns, policies)}\n\n{differences}\n\n{took}"


def _epochs(policy: dict[str, Any], first: dict[str, Any]) -> str:
    """Return the seconds and the events of a policy's challengers, and their share of the first policy's, with that of live NDCG@10."""
    seconds, learnt = (sum(each[name] for each in policy["trainings"]) for name in ("challenger_s", "learnt"))
    said = f"{seconds:.1f} s, {learnt:,}"
    if policy is first:
        return said
    their_seconds, theirs = (sum(each[name] for each in first["trainings"]) for name in ("challenger_s", "learnt"))
    kept = policy["ndcg"]["mean"] / first["ndcg"]["mean"]
    return f"{said}: {seconds / their_seconds:.0%} and {learnt / theirs:.0%} of {first['name']}'s, for {kept:.1%} of its NDCG@10"


def _replayed(folder: Path, overrides: list[str]) -> tuple[dict[str, Any], float, float]:
    """Run the command. Return its result, and its wall and CPU seconds."""
    set_ = [*overrides, f"store.url=file:{folder}/store", f"work_dir={folder}/work"]
    command = [sys.executable, "-m", "flows.cli", "study", "replay", "--json", str(folder / "replay.json")]
    environment = {**os.environ, "PREFECT_HOME": str(folder / "prefect")}
    began, before = time.perf_counter(), _cpu_seconds()
    subprocess.run([*command, *(part for each in set_ for part in ("--set", each))], check=True, env=environment)
    wall, cpu = time.perf_counter() - began, _cpu_seconds() - before
    return json.loads((folder / "replay.json").read_text(encoding="utf-8")), wall, cpu


def _cpu_seconds() -> float:
    """Return the CPU seconds of all child processes that have been waited for, and of their children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _interval(found: dict[str, float], sign: str = "") -> str:
    return f"{found['mean']:{sign}.4f} ({found['low']:{sign}.4f} to {found['high']:{sign}.4f})"


if __name__ == "__main__":
    main()
