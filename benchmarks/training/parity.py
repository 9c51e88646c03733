"""Parity of our layers with the stock parts: `python -m benchmarks.training.parity`.

On a GPU we compare with mamba-ssm's own module, on a CPU with its reference maths. The stock modules' weights are loaded into
ours. Outputs and gradients are compared in float32, on random lengths and intervals from 0 to 3e7 seconds. The error is the
greatest difference relative to the greatest value of the same tensor.

Two more checks follow. Random draws of parameters and intervals must not give a non-finite value. The hidden states of all
positions from one pass must equal those from a separate pass for each prefix.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.report import hardware, skip, write_result
from benchmarks.training.stock import MambaReference
from configs.settings import SS4RecSettings
from models.ss4rec import SS4RecNetwork
from models.ss4rec.kernels import Backend, resolve_backend, selective_scan, time_scan
from models.ss4rec.relation_aware import RelationAwareLayer
from models.ss4rec.time_aware import TimeAwareLayer
from models.windows import Segments

LONGEST_INTERVAL = 3e7
WIDTH, STATES = 64, 32


def main() -> None:
    """Run every comparison, write and print the result. Exits with an error if one exceeds its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", type=int, default=20, help="random batches per comparison")
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/parity.json"))
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        skip("there is no GPU; leave out --device, or give it cpu.")
    if device.type == "cuda" and importlib.util.find_spec("mamba_ssm") is None:
        skip("the GPU comparison needs the package mamba-ssm, which is not installed; --device cpu compares with its maths.")
    backend = resolve_backend("auto", device)
    torch.manual_seed(given.seed)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    rng = np.random.default_rng(given.seed)
    result: dict[str, Any] = {"hardware": hardware(), "backend": backend, "seed": given.seed, "cases": given.cases}
    result["time_aware_vs_s5_pytorch"] = _worst(_time_case(rng, device, backend) for _ in range(given.cases))
    kind, cases = _mamba(device), range(given.cases)
    result[f"relation_aware_vs_{kind}"] = _worst(_relation_case(rng, device, backend, kind) for _ in cases)
    result["draws"] = {"count": given.draws, "non_finite": _non_finite_draws(rng, device, backend, given.draws)}
    result["all_positions_vs_prefixes"] = _prefix_difference(rng, device, backend)
    write_result(given.out, result)
    for name in result:
        print(f"{name}: {result[name]}")
    within = all(max(result[name].values()) <= 1e-4 for name in result if "_vs_" in name and isinstance(result[name], dict))
    if not within or result["draws"]["non_finite"] or result["all_positions_vs_prefixes"] > 1e-5:
        raise SystemExit("A comparison exceeds its bound (1e-4 relative; no non-finite draw; 1e-5 for prefixes).")


def _lengths(rng: np.random.Generator, rows: int = 8) -> list[int]:
    return [int(n) for n in rng.integers(1, 201, rows)]


def _intervals(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Draw intervals in seconds. Half are 0 or a few seconds, as in MovieLens; the rest are log-uniform up to the longest."""
    long = np.exp(rng.uniform(0, math.log(LONGEST_INTERVAL), count))
    short = rng.integers(0, 5, count)
    return torch.from_numpy(np.where(rng.random(count) < 0.5, short, long).astype(np.float32))


def _segments(lengths: list[int], device: torch.device) -> Segments:
    return Segments.of(torch.tensor([0, *np.cumsum(lengths)], device=device), sum(lengths))


def _worst(cases: Iterable[dict[str, float]]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for case in cases:
        for name, error in case.items():
            worst[name] = max(worst.get(name, 0.0), error)
    return worst


def _errors(names: list[str], ours: Iterable[torch.Tensor], theirs: Iterable[torch.Tensor]) -> dict[str, float]:
    return {
        name: float((a - b).detach().abs().max() / b.detach().abs().max().clamp_min(1e-30))
        for name, a, b in zip(names, ours, theirs, strict=True)
    }


def _time_case(rng: np.random.Generator, device: torch.device, backend: Backend) -> dict[str, float]:
    from s5 import S5

    stock = S5(WIDTH, STATES, dt_min=0.001, dt_max=0.1).seq.to(device)
    layer = TimeAwareLayer(WIDTH, STATES, 0.001, 0.1).to(device)
    layer.load_stock(stock.state_dict())
    lengths = _lengths(rng)
    x = torch.randn(sum(lengths), WIDTH, device=device, requires_grad=True)
    intervals = _intervals(rng, len(x)).to(device)
    segments = _segments(lengths, device)
    if backend == "cuda":  # what a training step runs
        ours = layer.fused(x, intervals, segments, x.dtype) + layer.D * x
    else:
        ours, _ = layer(x, intervals, segments, backend=backend)
    parts = zip(torch.split(x, lengths), torch.split(intervals, lengths), strict=True)
    theirs = torch.cat([stock(part, step_scale=steps) for part, steps in parts])
    weight = torch.randn_like(ours)
    names = ["output", "grad input", "grad B", "grad C", "grad D", "grad log_step", "grad Lambda im", "grad Lambda re"]
    own = torch.autograd.grad(
        (ours * weight).sum(), [x, layer.B, layer.C, layer.D, layer.log_step, layer.frequency, layer.log_decay]
    )
    stocks = list(torch.autograd.grad((theirs * weight).sum(), [x, stock.B, stock.C, stock.D, stock.log_step, stock.Lambda]))
    on_lambda = stocks.pop()
    stocks[2] = torch.view_as_real(stocks[2].resolve_conj()) if stocks[2].is_complex() else stocks[2]
    stocks[4] = stocks[4].reshape(-1)
    # Ours is Re(Lambda) = -1e-4 - exp(log_decay).
    stocks += [on_lambda.imag, on_lambda.real * -layer.log_decay.detach().exp()]
    return _errors(names, [ours, *own], [theirs, *stocks])


def _mamba(device: torch.device) -> str:
    return "mamba_ssm" if device.type == "cuda" else "mamba_reference_maths"


def _relation_case(rng: np.random.Generator, device: torch.device, backend: Backend, kind: str) -> dict[str, float]:
    stock: nn.Module
    if kind == "mamba_ssm":
        from mamba_ssm import Mamba

        stock = Mamba(d_model=WIDTH, d_state=STATES, d_conv=4, expand=2).to(device)
    else:
        stock = MambaReference(WIDTH, STATES)
        with torch.no_grad():
            stock.dt_proj.bias.copy_(torch.rand(len(stock.dt_proj.bias)) * 3 - 6)
    layer = RelationAwareLayer(WIDTH, STATES, 4, 2).to(device)
    layer.load_state_dict(stock.state_dict())
    lengths = _lengths(rng, 4)
    x = torch.randn(sum(lengths), WIDTH, device=device, requires_grad=True)
    segments = _segments(lengths, device)
    ours = layer.fused(x, segments, x.dtype) if backend == "cuda" else layer(x, segments, backend=backend)[0]
    theirs = torch.cat([stock(part[None])[0] for part in torch.split(x, lengths)])
    weight = torch.randn_like(ours)
    names = [name for name, _ in layer.named_parameters()]
    given = dict(stock.named_parameters())
    own = torch.autograd.grad((ours * weight).sum(), [x, *layer.parameters()])
    stocks = torch.autograd.grad((theirs * weight).sum(), [x, *(given[name] for name in names)])
    return _errors(["output", "grad input", *(f"grad {name}" for name in names)], [ours, *own], [theirs, *stocks])


def _non_finite_draws(rng: np.random.Generator, device: torch.device, backend: Backend, draws: int) -> int:
    """Count the draws of one state's parameters, intervals and inputs that give a non-finite output or gradient.

    The ranges are wider than in trained networks: rates and steps over e^-12..e^4, inputs ten times unit size.
    """
    bad = 0
    for first in range(0, draws, STATES):
        lengths = [int(n) for n in rng.integers(1, 40, 4)]
        segments, tokens = _segments(lengths, device), sum(lengths)

        def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
            drawn = torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32))
            return drawn.to(device).requires_grad_()

        intervals = _intervals(rng, tokens).to(device)
        intervals[0] = LONGEST_INTERVAL
        decay, frequency, log_step = uniform(-12, 4, STATES), uniform(-200, 200, STATES), uniform(-12, 4, STATES)
        drive = uniform(-10, 10, tokens, 2 * STATES)
        h, _ = time_scan(drive, intervals, -decay.exp() - 1e-4, frequency, log_step, segments, backend=backend)
        leaves = [
            uniform(-10, 10, tokens, STATES), uniform(-30, 30, tokens, STATES), uniform(-10, 10, tokens, STATES),
            uniform(-6, 6, STATES, STATES), uniform(-10, 10, tokens, STATES), uniform(-10, 10, tokens, STATES),
            uniform(-2, 2, STATES), uniform(-12, 4, STATES),
        ]  # fmt: skip
        y, _ = selective_scan(*leaves, segments, backend=backend)  # type: ignore[misc, arg-type]
        gradients = torch.autograd.grad(h.sum() + y.sum(), [drive, decay, frequency, log_step, *leaves])
        finite = torch.stack([torch.isfinite(value).all() for value in (h, y, *gradients)])
        if not bool(finite.all()):
            bad += min(STATES, draws - first)
    return bad


def _prefix_difference(rng: np.random.Generator, device: torch.device, backend: Backend) -> float:
    """Return the greatest difference between hidden states from one pass over the window and from a pass over each prefix."""
    settings = SS4RecSettings(width=WIDTH, relation_state=STATES, dropout=0.0, embedding_dropout=0.0)
    network = SS4RecNetwork(500, settings).to(device).eval()
    length = 120
    items = torch.from_numpy(rng.integers(1, 501, length)).to(device)
    intervals = _intervals(rng, length).to(device)
    with torch.no_grad():
        together = network(items, intervals, _segments([length], device), backend)
        prefixes = [torch.arange(n, device=device) for n in range(1, length + 1)]
        stream = torch.cat(prefixes)
        alone = network(items[stream], intervals[stream], _segments(list(range(1, length + 1)), device), backend)
    ends = torch.cumsum(torch.arange(1, length + 1), dim=0) - 1
    return float((together - alone[ends.to(device)]).abs().max())


if __name__ == "__main__":
    main()
