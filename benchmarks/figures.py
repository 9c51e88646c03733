"""Draw the figures of docs/benchmarks from benchmarks/results: `python -m benchmarks.figures`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.ranking.variants import kind_of
from configs.kinds import spec_of

mpl.use("svg")
from matplotlib import pyplot, ticker

__all__ = ["main", "quality_against_cost"]

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parents[1] / "docs" / "benchmarks"
PROTOCOL = "loo-exact"
READABLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "recsys",
    "axes.axisbelow": True,
}  # text stays text


def main() -> None:
    """Draw every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PAGES, help="folder of the figures")
    given = parser.parse_args()
    peers, cost = (json.loads((RESULTS / name).read_text(encoding="utf-8")) for name in ("peers.json", "cost.json"))
    quality_against_cost(peers, cost, given.out / "quality-cost.svg")


def quality_against_cost(peers: dict[str, Any], cost: dict[str, Any], path: Path) -> None:
    """Draw each model's masked NDCG@10 (with the spread of its seeds) against the CPU time of an answer."""
    rows = {row["variant"]: row for row in peers["rows"] if row["protocol"].split(";")[0] == PROTOCOL}
    with mpl.rc_context(READABLE):
        figure, axes = pyplot.subplots(figsize=(7.2, 4.2))
        for each in cost["rows"]:
            if each["variant"] not in rows:
                continue
            row = rows[each["variant"]]
            quality = row["masked ndcg@10"]
            colour = spec_of(kind_of(each["variant"])).colour
            label = f"{each['variant']}, from {'a state' if 'state' in each['reads'] else 'the latest events'}"
            marker = "D" if "state" in each["reads"] else "o"
            axes.errorbar(
                each["ms"], quality["mean"], quality["sd"] or 0.0, fmt=marker, color=colour, markersize=8, capsize=3, label=label
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.legend(loc="lower left", frameon=False)
        axes.set_xlabel("CPU milliseconds of an answer, one thread")
        axes.set_ylabel("masked NDCG@10")
        axes.margins(x=0.15, y=0.12)
        axes.grid(color="#88888840")
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    main()
