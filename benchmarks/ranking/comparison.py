"""The rows of a comparison of models: the mean over the seeds, the paired tests against SS4Rec, and the table."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from benchmarks.ranking.variants import OURS, UNFINISHED, kind_of
from infra.pages import markdown_table
from models.evaluation import paired_test, per_request
from models.recommender import IntArray

__all__ = ["compared", "headline", "ranks_key", "render", "rows"]

SHOWN = ("hr@10", "ndcg@10")
RANKINGS = ("unmasked", "masked", "unmasked at last event", "masked at last event")


def rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each protocol and variant: the mean and the spread over the seeds."""
    found = []
    for protocol, variant in dict.fromkeys((run["protocol"], run["variant"]) for run in runs):
        same = [run for run in runs if (run["protocol"], run["variant"]) == (protocol, variant)]
        row: dict[str, Any] = {"protocol": protocol, "variant": variant, "seeds": sorted(run["seed"] for run in same)}
        for ranking in RANKINGS:
            for name in (*SHOWN, "coverage@10", "tail ndcg@10"):
                values = [run["test"][ranking][name] for run in same]
                spread = statistics.stdev(values) if len(values) > 1 else None
                row[f"{ranking} {name}"] = {"mean": statistics.mean(values), "sd": spread}
        for name in ("gpu_seconds", "epochs", "peak_bytes", "parameters"):
            row[name] = statistics.median(run[name] for run in same)
        row["collapsed"] = sum(bool(run["collapsed"]) for run in same)
        found.append(row)
    return sorted(found, key=lambda row: (row["protocol"], -row["masked ndcg@10"]["mean"]))


def compared(found: list[dict[str, Any]], others: list[dict[str, Any]], ranks: dict[str, IntArray]) -> list[dict[str, Any]]:
    """Return the rows, each with the tests of whether a variant of SS4Rec has a higher NDCG@10, with and without seen items.

    A row of SS4Rec is compared with the rows of the other kinds. `others` are rows of other results, which are only compared with.
    """
    known = [*found, *others]
    for row in found:
        ours = kind_of(row["variant"]) == "ss4rec"
        same = [each for each in known if each["protocol"] == row["protocol"] and (kind_of(each["variant"]) == "ss4rec") != ours]
        row["compared"] = [
            {"variant": each["variant"], "ranking": seen, **_test(row if ours else each, each if ours else row, seen, ranks)}
            for each in same
            for seen in ("masked", "unmasked")
        ]
    return found


def _test(ours: dict[str, Any], peer: dict[str, Any], seen: str, ranks: dict[str, IntArray]) -> dict[str, float]:
    """Test whether the NDCG@10 of `ours` is higher than that of `peer`, over the requests and the seeds."""
    values = [
        np.mean(
            [per_request(ranks[ranks_key(row["protocol"], row["variant"], seed, seen)], "ndcg", 10) for seed in row["seeds"]], 0
        )
        for row in (ours, peer)
    ]
    spread = [(row[f"{seen} ndcg@10"]["sd"] or 0.0) / len(row["seeds"]) ** 0.5 for row in (ours, peer)]
    test = paired_test(values[0], values[1], resamples=10_000, seed=17, common_sd=float(np.hypot(*spread)))
    return {name: getattr(test, name) for name in ("difference", "ci_low", "ci_high", "p_value")}


def render(result: dict[str, Any]) -> str:
    """Return the rows as a Markdown table, the best of each protocol first."""
    found = result["rows"]
    head = ["protocol", "model"]
    head += [f"{name.upper()}, {ranking}" for ranking in RANKINGS for name in SHOWN]
    head += [
        "SS4Rec's masked NDCG@10 is higher",
        "coverage@10",
        "tail NDCG@10",
        "seeds",
        "epochs",
        "GPU s",
        "peak MiB",
        "weights",
    ]
    lines = []
    for row in found:
        cells = [_mean(row[f"{ranking} {name}"]) for ranking in RANKINGS for name in SHOWN]
        cells.append(_difference(row))
        cells += [_mean(row["masked coverage@10"]), _mean(row["masked tail ndcg@10"]), str(len(row["seeds"]))]
        cells += [
            f"{row['epochs']:.0f}",
            f"{row['gpu_seconds']:.0f}",
            f"{row['peak_bytes'] / 2**20:,.0f}",
            f"{row['parameters']:,.0f}",
        ]
        lines.append([f"`{row['protocol']}`", row["variant"], *cells])
    return markdown_table(head, lines)


def headline(result: dict[str, Any]) -> str:
    """Return the figures under `loo-exact` without seen items as a short Markdown table, of the models that were trained to their end."""
    rows = [row for row in result["rows"] if row["protocol"].split(";")[0] == "loo-exact" and row["variant"] not in UNFINISHED]
    cells = [[row["variant"], *(_mean(row[f"masked {name}"]) for name in SHOWN), _short_difference(row)] for row in rows]
    return markdown_table(["model", "HR@10", "NDCG@10", "SS4Rec's NDCG@10 is higher by"], cells)


def _short_difference(row: dict[str, Any]) -> str:
    tests = [each for each in row.get("compared", []) if (each["ranking"], each["variant"]) == ("masked", OURS)]
    return "".join(f"{each['difference']:.4f} ({each['ci_low']:.4f} to {each['ci_high']:.4f})" for each in tests)


def _difference(row: dict[str, Any]) -> str:
    """Return by how much SS4Rec is higher: than this row, or, in a row of SS4Rec, than the best row of another kind.

    The SS4Rec that is compared with another kind was trained in the same way, if the tests have one. It is named if it is not OURS.
    """
    tests = {each["variant"]: each for each in row.get("compared", []) if each["ranking"] == "masked"}
    if not tests:
        return ""
    variant: str = row["variant"]
    ours = kind_of(variant) == "ss4rec"
    alike = ", ".join([OURS, *variant.split(", ")[1:]])
    other = (
        min(tests, key=lambda each: tests[each]["difference"]) if ours else next(v for v in (alike, OURS, *tests) if v in tests)
    )
    test, named = tests[other], f", than {other}" if ours else f", {other}" if other != OURS else ""
    return f"by {test['difference']:+.4f} ({test['ci_low']:+.4f} to {test['ci_high']:+.4f}), p = {test['p_value']:.4f}{named}"


def ranks_key(protocol: str, variant: str, seed: int, seen: str) -> str:
    """Return the name of the ranks of one run, with or without seen items."""
    return "|".join((protocol, variant, str(seed), seen))


def _mean(value: dict[str, float | None]) -> str:
    return f"{value['mean']:.4f}" + (f" ± {value['sd']:.4f}" if value["sd"] is not None else "")
