"""SS4Rec's forward pass over padded histories, in tensor operations that `torch.export` can trace.

The recurrences run as a prefix scan (Hillis and Steele 1986): log2(L) steps over all positions at once, instead of L steps or a kernel
of our own. The result is that of the other backends up to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from configs.settings import SS4RecSettings
from models.recommender import Program
from models.ss4rec.kernels import complex_product, discretise
from models.ss4rec.network import Block, SS4RecNetwork
from models.ss4rec.relation_aware import RelationAwareLayer
from models.ss4rec.time_aware import LEAST_DECAY, TimeAwareLayer
from models.users import TRAITS, UserTraits

__all__ = ["program_of"]


def program_of(network: SS4RecNetwork, settings: SS4RecSettings, cold: torch.Tensor, traits: UserTraits | None) -> Program:
    """Return the program that maps the latest `max_length` events of each user to scores.

    Args:
        network: The trained network.
        settings: Its settings.
        cold: Scores (n_items,) for a user without events.
        traits: The users' traits that the network reads, if any.
    """
    length = settings.max_length
    items = torch.zeros(2, length, dtype=torch.int64)
    items[1, -1] = 1
    inputs = {"items": items, "seconds": torch.zeros(2, length)}
    meaning = {
        "items": f"int64 (B, {length}): numbers of the user's latest {length} items, the newest last. 0 fills up at the front.",
        "seconds": f"float32 (B, {length}): seconds from each event to the next one. The last is to the request.",
        "scores": "float32 (B, items): the score of each item. A user without events gets the logarithms of the items' counts.",
    }
    if settings.calendar_input:
        inputs["until"] = torch.zeros(2, length, dtype=torch.int64)
        meaning["until"] = f"int64 (B, {length}): UTC seconds of the event after each one. The last is the time of the request."
    if traits is not None:
        inputs["traits"] = torch.zeros(2, len(TRAITS), dtype=torch.int64)
        listed = "; ".join(f"{name}: {', '.join(values)}" for name, values in zip(TRAITS, traits.values, strict=True))
        meaning["traits"] = f"int64 (B, {len(TRAITS)}): 0 for unknown, or the place of the value in its list, from 1. {listed}."
    copied = SS4RecNetwork(network.items.num_embeddings - 1, settings, () if traits is None else traits.sizes)
    copied.load_state_dict({name: weight.detach().cpu() for name, weight in network.state_dict().items()})
    module = _HistoryScores(copied, cold.detach().cpu(), list(inputs)[2:])
    return Program(module.eval().requires_grad_(False), inputs, meaning)


class _HistoryScores(nn.Module):
    def __init__(self, network: SS4RecNetwork, cold: torch.Tensor, further: list[str]) -> None:
        """`further` names the inputs after the items and the seconds."""
        super().__init__()
        self.network, self.further = network, further
        self.register_buffer("cold", cold)

    def forward(
        self, items: torch.Tensor, seconds: torch.Tensor, third: torch.Tensor | None = None, fourth: torch.Tensor | None = None
    ) -> torch.Tensor:
        network, named = self.network, dict(zip(self.further, (third, fourth), strict=False))
        traits = named.get("traits")
        real = items > 0
        x = network.embedded(items, seconds, named.get("until"))
        if traits is not None:
            described = torch.stack([table(traits[:, i]) for i, table in enumerate(network.traits)]).sum(0)
            x = x + described[:, None]
        scaled = network.interval_scale(seconds)
        for block in network.blocks:
            x = _block(block, x, scaled, real[..., None])  # type: ignore[arg-type]
        last = x[:, -1] if network.final_norm is None else network.final_norm(x[:, -1])
        scores = network.logits(last)
        return torch.where(real.any(dim=1, keepdim=True), scores, self.get_buffer("cold"))


def _block(block: Block, x: torch.Tensor, scaled: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the outputs (B, L, H) of a block. The places that are not `real` (B, L, 1) do not reach the others."""
    if block.time_aware is not None:
        y = _time_aware(block.time_aware, block.input_of(block.norm, x), scaled, real)
        x = block.output_of(block.norm, x + y)
    if block.relation_aware is not None:
        y = _relation_aware(block.relation_aware, block.input_of(block.relation_norm, x), real)
        x = block.output_of(block.relation_norm, x + y)
    return x


def _time_aware(layer: TimeAwareLayer, x: torch.Tensor, scaled: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    drive = F.linear(x, torch.cat([layer.B[..., 0], layer.B[..., 1]])) * real
    rate = -LEAST_DECAY - layer.log_decay.exp()
    decay, hold = discretise(scaled.flatten(), rate, layer.frequency, layer.log_step)
    driven = complex_product(hold, drive.flatten(0, 1))
    h = _complex_scan(decay.view_as(drive), driven.view_as(drive))
    return F.linear(h, torch.cat([layer.C[..., 0], -layer.C[..., 1]], dim=1)) + layer.D * x


def _relation_aware(layer: RelationAwareLayer, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    inputs, gate = layer.in_proj(x).chunk(2, dim=-1)
    inputs = inputs * real
    taps = layer.conv1d.kernel_size[0]
    before = F.pad(inputs, (0, 0, taps - 1, 0))
    assert layer.conv1d.bias is not None
    u = layer.conv1d.bias + torch.stack([before[:, k : k + x.shape[1]] * layer.conv1d.weight[:, 0, k] for k in range(taps)]).sum(
        0
    )
    u = F.silu(u)
    delta, b, c = layer.x_proj(u).split([layer.rank, layer.states, layer.states], dim=-1)
    step = F.softplus(layer.dt_proj(delta))
    decay = torch.exp(step[..., None] * -layer.A_log.exp())
    h = _scan(decay, (step * u * real)[..., None] * b[:, :, None, :])
    y = (h * c[:, :, None, :]).sum(-1)
    out: torch.Tensor = layer.out_proj((y + layer.D * u) * F.silu(gate))
    return out


def _scan(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return h_t = a_t h_{t-1} + b_t over the second dimension, from h = 0."""
    reach = 1
    while reach < a.shape[1]:
        b = b + a * _later(b, reach)
        a = a * _later(a, reach)
        reach *= 2
    return b


def _complex_scan(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Do the same for complex numbers as pairs (B, L, 2P)."""
    reach = 1
    while reach < a.shape[1]:
        b = b + _product(a, _later(b, reach))
        a = _product(a, _later(a, reach))
        reach *= 2
    return b


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return complex_product(a.flatten(0, 1), b.flatten(0, 1)).view_as(a)


def _later(values: torch.Tensor, by: int) -> torch.Tensor:
    """Move the values to later positions. The first positions become 0."""
    return F.pad(values, (0, 0) * (values.dim() - 2) + (by, 0))[:, : values.shape[1]]
