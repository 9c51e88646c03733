"""Compile the CUDA kernels of a training run at the same time, before they are needed.

Otherwise the first step compiles them one after the other, which often takes longer than an epoch. Each kernel runs here on a
few tokens, in its own thread, with the types, strides and alignment of training, because Triton compiles for those. A kernel
call that does not match is compiled when it first occurs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from configs.settings import SS4RecSettings
from models.windows import Segments

__all__ = ["precompile"]

TOKENS = 32
CATALOGUE = 4096  # items; the loss is compiled for blocks of this size, or smaller ones if the catalogue is smaller


def precompile(settings: SS4RecSettings, dtype: torch.dtype, device: torch.device, *, threads: int = 4) -> Callable[[], None]:
    """Start compiling. The returned function waits for the end and raises any error.

    `dtype` is the type of the activations.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="precompile")
    kernels: list[Callable[[SS4RecSettings, torch.dtype, torch.device], None]] = [_loss]
    if settings.layers != "time":
        kernels += [_selective, _convolution]
    if settings.layers != "relation":
        kernels.append(_time)
    if settings.norm == "post":
        kernels.append(_norm)
    started: list[Future[None]] = [pool.submit(kernel, settings, dtype, device) for kernel in kernels]
    pool.shutdown(wait=False)

    def finish() -> None:
        for future in started:
            future.result()

    return finish


def _segments(device: torch.device) -> Segments:
    return Segments.of(torch.tensor([0, TOKENS // 2, TOKENS], device=device), TOKENS)


@torch.no_grad()
def _time(settings: SS4RecSettings, dtype: torch.dtype, device: torch.device) -> None:
    from models.ss4rec.kernels import Part, TimeScan
    from models.ss4rec.time_aware import LEAST_DECAY

    states = settings.time_state
    drive = torch.zeros(TOKENS, 2 * states, dtype=dtype, device=device)
    intervals = torch.zeros(TOKENS, device=device)
    rate, steps = -torch.ones(2, states, device=device), torch.zeros(states, device=device)
    context: Any = Part((True, settings.interval == "learned", *(True,) * 7))
    copied = None if dtype == torch.float32 else torch.empty_like(drive)
    own = (rate[0], rate[1].clone(), steps, None, _segments(device), LEAST_DECAY, copied)
    TimeScan.forward(context, drive, intervals, *own)
    TimeScan.backward(context, torch.zeros_like(drive), None)


@torch.no_grad()
def _selective(settings: SS4RecSettings, dtype: torch.dtype, device: torch.device) -> None:
    from models.ss4rec.kernels import Part, SelectiveScan
    from models.ss4rec.relation_aware import RelationAwareLayer

    inner, states = settings.expand * settings.width, settings.relation_state
    rank = RelationAwareLayer.rank_of(settings.width)
    u = torch.zeros(TOKENS, inner, dtype=dtype, device=device)
    gate = torch.zeros(TOKENS, 2 * inner, dtype=dtype, device=device).chunk(2, dim=1)[1]
    projected = torch.zeros(TOKENS, rank + 2 * states, dtype=dtype, device=device)
    _, b, c = torch.split(projected, [rank, states, states], dim=1)
    a_log, channel = torch.zeros(inner, states, device=device), torch.zeros(inner, device=device)
    for training in (True, False):
        context: Any = Part((True,) * 10)
        y, _ = SelectiveScan.forward(
            context, u, u.clone(), gate, a_log, b, c, channel, channel.clone(), None, _segments(device), training
        )
        if training:
            context.grad_gate = gate.new_empty(TOKENS, 2 * inner).chunk(2, dim=1)[1]
            SelectiveScan.backward(context, torch.zeros_like(y), None)


@torch.no_grad()
def _convolution(settings: SS4RecSettings, dtype: torch.dtype, device: torch.device) -> None:
    from models.ss4rec.kernels import Convolution, Part

    inner = settings.expand * settings.width
    x = torch.zeros(TOKENS, 2 * inner, dtype=dtype, device=device).chunk(2, dim=1)[0]
    weight, bias = torch.zeros(inner, settings.conv_width, device=device), torch.zeros(inner, device=device)
    context: Any = Part((True,) * 4)
    y = Convolution.forward(context, x, weight, bias, _segments(device))
    context.grad_x = x.new_empty(TOKENS, 2 * inner).chunk(2, dim=1)[0]
    Convolution.backward(context, torch.zeros_like(y))


@torch.no_grad()
def _norm(settings: SS4RecSettings, dtype: torch.dtype, device: torch.device) -> None:
    from models.ss4rec.dropout import ByteDropout
    from models.ss4rec.kernels import AddAndNormalise, Part
    from models.ss4rec.network import NORM_EPSILON

    x, scale = torch.zeros(TOKENS, settings.width, device=device), torch.ones(settings.width, device=device)
    y, dropped = x.to(dtype, copy=True), ByteDropout(settings.dropout).dropped
    skips: list[torch.Tensor | None] = [] if settings.layers == "relation" else [scale.clone()]
    if settings.layers != "time":
        skips.append(None)
    for skip in skips:
        for rate in {dropped, 0}:
            context: Any = Part((True,) * 8)
            out, read = AddAndNormalise.forward(context, x, y, skip, scale, scale.clone(), NORM_EPSILON, rate, dtype)
            if rate == dropped:
                for on_out in (torch.zeros_like(out), None):  # nothing but the loss reads the last layer's
                    AddAndNormalise.backward(context, on_out, torch.zeros_like(read))


def _loss(settings: SS4RecSettings, dtype: torch.dtype, device: torch.device) -> None:
    from models.losses import catalogue_cross_entropy

    if settings.loss == "cross_entropy":
        hidden = torch.zeros(TOKENS, settings.width, dtype=dtype, device=device)
        targets, total = torch.zeros(TOKENS, dtype=torch.int64, device=device), torch.ones((), device=device)
        weight = torch.zeros(CATALOGUE, settings.width, device=device, requires_grad=True)
        with torch.autocast(device.type, enabled=False):
            catalogue_cross_entropy(hidden, weight, targets, settings.label_smoothing, total)
