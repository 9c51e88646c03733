"""NCF's forward pass from the number of a user, in tensor operations that `torch.export` can trace."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models.ncf.inference import hidden_layers
from models.recommender import IntArray, Program

__all__ = ["program_of"]


def program_of(weights: dict[str, torch.Tensor], users: IntArray) -> Program:
    """Return the program that maps users to scores.

    Args:
        weights: The weights by name. Row 0 of a table of users is the mean user.
        users: Raw ids (U,) of the users with the numbers 1, 2, ...
    """
    meaning = {
        "users": "int64 (B,): numbers of the users. 0 is a user who was not in training.",
        "scores": "float32 (B, items): the score of each item.",
    }
    return Program(_UserScores(weights).eval(), {"users": torch.tensor([0, 1])}, meaning, users)


class _UserScores(nn.Module):
    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        layers, width = hidden_layers(weights), weights["user_mlp_embedding.weight"].shape[1]
        factors = weights["user_mf_embedding.weight"].shape[1]
        first, out = weights[f"{layers[0]}.weight"], weights["predict_layer.weight"][0]
        parts = {
            "user_half": weights["user_mlp_embedding.weight"] @ first[:, :width].T + weights[f"{layers[0]}.bias"],
            "item_half": weights["item_mlp_embedding.weight"][1:] @ first[:, width:].T,
            "user_factors": weights["user_mf_embedding.weight"] * out[:factors],
            "item_factors": weights["item_mf_embedding.weight"][1:],
            "out": out[factors:],
            "bias": weights["predict_layer.bias"],
        }
        for number, layer in enumerate(layers[1:]):
            parts |= {f"weight_{number}": weights[f"{layer}.weight"], f"bias_{number}": weights[f"{layer}.bias"]}
        for name, part in parts.items():
            self.register_buffer(name, part.contiguous().clone())
        self._layers = len(layers) - 1

    def forward(self, users: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.get_buffer("user_half")[users][:, None] + self.get_buffer("item_half"))
        for number in range(self._layers):
            hidden = F.relu(F.linear(hidden, self.get_buffer(f"weight_{number}"), self.get_buffer(f"bias_{number}")))
        factors = self.get_buffer("user_factors")[users] @ self.get_buffer("item_factors").T
        return hidden @ self.get_buffer("out") + factors + self.get_buffer("bias")
