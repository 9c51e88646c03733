"""Tables for training: speed, scale, and parity with the stock parts."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import met
from infra.pages import markdown_table

__all__ = ["cpu_speed", "parity", "scale", "speed"]

Result = dict[str, Any]

# The bars. Each figure is shown next to its bar, even if it misses the bar.
EPOCH_S, COLD_START_S, MEMORY_GIB = 0.2, 15.0, 4.0  # ML-1M, one H200
SCALE_EPOCH_S, SCALE_EVALUATION_S = 60.0, 5.0  # at 25 M events
PARITY, PREFIXES = 1e-4, 1e-5


def speed(result: Result) -> str:
    rows = []
    for name, row in result.get("epochs", {}).items():
        rows.append([f"`{name}`: epoch", f"{row['epoch_s']:.3f} s", f"< {EPOCH_S} s", met(row["epoch_s"] < EPOCH_S)])
        rows.append([f"`{name}`: ranking all users", f"{row['evaluation_s']:.3f} s", "", ""])
        rows.append(
            [
                f"`{name}`: peak GPU memory",
                f"{row['peak_gib']:.2f} GiB",
                f"< {MEMORY_GIB:.0f} GiB",
                met(row["peak_gib"] < MEMORY_GIB),
            ]
        )
    if cold := result.get("cold_start"):
        runs = ", ".join(f"{seconds:.1f}" for seconds in cold["every_run_s"])
        rows.append(
            [
                f"new process, nothing compiled, to valid NDCG@10 {cold['target']} (median of {runs} s; {_overrides(cold['settings'])})",
                f"{cold['reached_s']:.1f} s",
                f"< {COLD_START_S:.0f} s",
                met(cold["reached_s"] < COLD_START_S),
            ]
        )
    return markdown_table(["what", "measured", "bar", ""], [*rows, *_stock_speed(result)])


def scale(result: Result) -> str:
    largest = max(row["interactions"] for row in result["sizes"])
    rows = []
    for row in result["sizes"]:
        barred = row["interactions"] == largest >= 25_000_000
        epoch, ranking = f"{row['epoch_s']:.2f}", f"{row['evaluation_s']:.2f}"
        if barred:
            epoch += f" (bar < {SCALE_EPOCH_S:.0f}: {met(row['epoch_s'] < SCALE_EPOCH_S)})"
            ranking += f" (bar < {SCALE_EVALUATION_S:.0f}: {met(row['evaluation_s'] < SCALE_EVALUATION_S)})"
        memory = f"{row['peak_gib']:.2f}" if row["peak_gib"] is not None else ""
        rows.append([f"{row['interactions']:,}", f"{row['users']:,}", f"{row['items']:,}", epoch, ranking, memory])
    own = result["settings"]
    network = f"synthetic events; width {own['width']}, {own['blocks']} blocks, {own['batch_tokens']:,} events a step"
    return markdown_table([network, "users", "items", "epoch, s", "ranking all users, s", "peak GPU memory, GiB"], rows)


def parity(result: Result) -> str:
    names = {
        "time_aware_vs_s5_pytorch": "time-aware layer and s5-pytorch",
        "relation_aware_vs_mamba_ssm": "relation-aware layer and mamba-ssm's module",
        "relation_aware_vs_mamba_reference_maths": "relation-aware layer and mamba-ssm's reference maths",
    }
    rows = []
    for key, name in names.items():
        if key in result:
            errors = dict(result[key])
            output, worst = errors.pop("output"), max(errors, key=lambda name: float(errors[name]))
            rows.append([f"{name}: output", f"{output:.1e}", f"{PARITY:.0e}", met(output <= PARITY)])
            rows.append(
                [f"{name}: worst gradient ({worst[5:]})", f"{errors[worst]:.1e}", f"{PARITY:.0e}", met(errors[worst] <= PARITY)]
            )
    draws, prefixes = result["draws"], result["all_positions_vs_prefixes"]
    rows.append(
        [f"draws of {draws['count']:,} with a non-finite value", str(draws["non_finite"]), "0", met(not draws["non_finite"])]
    )
    rows.append(
        ["all positions at once and a pass for each prefix", f"{prefixes:.1e}", f"{PREFIXES:.0e}", met(prefixes <= PREFIXES)]
    )
    return markdown_table(
        [f"greatest difference, float32, {result['cases']} random batches (`{result['backend']}`)", "found", "bar", ""], rows
    )


def cpu_speed(result: Result) -> str:
    names = {
        "windows": "stock parts, all positions",
        "prefixes": "stock parts, a row of 200 for each target, as in the authors' code",
    }
    rows = [["ours", f"{result['ours']['epoch_s']:.1f}", ""]]
    for key, name in names.items():
        stock = result["stock"][key]
        name += f" ({stock['rows']:,} rows at {stock['row_ms']:.0f} ms, extrapolated)"
        rows.append([name, f"{stock['epoch_s']:,.0f}", f"{stock['epoch_s'] / result['ours']['epoch_s']:,.0f} times"])
    return markdown_table(["`paper` on the CPU, an epoch with its validation", "of the processors, s", "as much as ours"], rows)


def _stock_speed(result: Result) -> list[list[str]]:
    """Return rows on the network from stock parts: each way to train it, and the fastest of them against ours."""
    rows = []
    if stock := result.get("stock"):
        name = f"stock parts, a row of 200 for each target, as in the authors' code, float32: epoch of {stock['steps']} steps"
        rows.append([name, f"{stock['epoch_s']:.0f} s", "", ""])
    windows = result.get("stock_windows", [])
    for row in windows:
        name = f"stock parts, all positions, {row['events']:,} events a step, {row['how']}: epoch"
        rows.append([name, f"did not run: {row['refused']}" if row["refused"] else f"{row['epoch_s']:.3f} s", "", ""])
    for name, own in result.get("epochs", {}).items():
        rivals = [row["epoch_s"] for row in windows if row["events"] == own["events"] and not row["refused"]]
        if own["settings"]["preset"] == "paper" and rivals:  # the same network as the stock parts
            rows.append(
                [f"fastest stock parts at as many events a step / `{name}`", f"{min(rivals) / own['epoch_s']:.2f} times", "", ""]
            )
    return rows


def _overrides(settings: dict[str, Any]) -> str:
    changed = ", ".join(f"{name} {value}" for name, value in settings.items() if name != "preset")
    return f"`{settings['preset']}`" + (f" with {changed}" if changed else "")
