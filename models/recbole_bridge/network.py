"""RecBole's network and trainer for any of its sequential and general models, on our train part.

Importing this module imports RecBole, which takes seconds, so import it only where it is needed.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from configs.errors import TrainingError
from models.recbole_bridge.ncf import ITEM, TIME, USER, prepare, recbole_config
from models.recommender import IntArray
from models.training import WeightAverage

prepare()

from recbole.data import create_dataset, get_dataloader  # noqa: E402
from recbole.data.interaction import Interaction  # noqa: E402
from recbole.data.utils import create_samplers  # noqa: E402
from recbole.utils import InputType, ModelType, get_model, get_trainer  # noqa: E402

__all__ = ["Built", "RecBoleEpochs", "build", "build_from_sizes", "interaction", "visible_gpus"]

ENCODERS = {"MultiDAE", "MultiVAE", "MacridVAE", "CDAE", "ENMF", "DiffRec"}  # they read whole users, and need no negatives
UNIFORM = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}


@dataclass(frozen=True, eq=False)
class Built:
    """A network with what trains it."""

    config: Any
    network: nn.Module
    trainer: Any
    loader: Any
    users: IntArray  # (n_users,) raw ids of RecBole's indices 1..n_users
    items: IntArray  # (n_items,) raw ids of RecBole's indices 1..n_items

    @property
    def at_once(self) -> bool:
        """Whether the model is made in one pass, without gradients."""
        return bool(self.config["MODEL_TYPE"] == ModelType.TRADITIONAL)


class _Optimizers:
    """All optimizers of a trainer as one, for checkpoints: some models have several."""

    def __init__(self, trainer: Any) -> None:
        self._all = {name: each for name, each in vars(trainer).items() if isinstance(each, torch.optim.Optimizer)}

    def zero_grad(self) -> None:
        for each in self._all.values():
            each.zero_grad()

    def step(self) -> None:
        for each in self._all.values():
            each.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: each.state_dict() for name, each in self._all.items()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        for name, each in self._all.items():
            each.load_state_dict(state[name])


class RecBoleEpochs:
    """Runs an epoch with RecBole's trainer. Each epoch draws its random numbers from the seed and its own number."""

    def __init__(self, built: Built, seed: int) -> None:
        self._built, self._seed = built, seed
        self.optimizers = _Optimizers(built.trainer)
        self.average = WeightAverage(built.network, 0.0)

    def __call__(self, epoch: int) -> float:
        name, loader = self._built.config["model"], self._built.loader
        with _drawing(self._seed * 1_000_003 + epoch, loader), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                losses = self._built.trainer._train_epoch(loader, epoch - 1)
            except Exception as error:
                if isinstance(error, ValueError) and "nan" in str(error).lower():
                    raise TrainingError(
                        f"Training of {name} diverged in epoch {epoch}: {error}. Lower the learning rate."
                    ) from error
                raise _refused(name, error) from error
        wrong = [each for each, weight in self._built.network.named_parameters() if not bool(torch.isfinite(weight).all())]
        loss = float(sum(losses) if isinstance(losses, tuple) else losses) / max(len(loader), 1)
        if wrong or not np.isfinite(loss):
            raise TrainingError(
                f"Training of {name} diverged in epoch {epoch}: loss {loss}; non-finite weights: {wrong[:3] or 'none'}. Lower the "
                "learning rate."
            )
        return loss


def build(events: pd.DataFrame, name: str, settings: Mapping[str, Any], catalogue: IntArray, seed: int) -> Built:
    """Build the untrained network, its trainer, and the batches of all `events`.

    Args:
        events: The columns user_id, item_id and timestamp of the train part. Times are positions in a user's events.
        name: RecBole's name of the model.
        settings: RecBole's settings by their names.
        catalogue: Raw ids of all items.
        seed: Seed of the initial weights.
    """
    with _settled(events, name, settings, catalogue) as config, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from RecBole's use of pandas, numpy and scipy
        dataset = create_dataset(config)
        dataset._change_feat_format()
        if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and not len(dataset.inter_feat):
            raise TrainingError("There is nothing to train on: no user has two events in the train part.")
        sampler = create_samplers(config, dataset, [dataset, dataset, dataset])[0]
        loader = get_dataloader(config, "train")(config, dataset, sampler, shuffle=True)
        with _drawing(seed, loader):
            try:
                network = get_model(name)(config, dataset).to(config["device"])
            except Exception as error:
                raise _refused(name, error) from error
            trainer = get_trainer(config["MODEL_TYPE"], name)(config, network)
        trainer.tensorboard.close()
        users, items = (dataset.field2id_token[field][1:].astype(np.int64) for field in (USER, ITEM))
        return Built(config, network, trainer, loader, users, items)


def build_from_sizes(users: int, name: str, settings: Mapping[str, Any], catalogue: IntArray) -> nn.Module | None:
    """Build the untrained network from nothing but the numbers of users and items. Return None if it needs the events."""
    nothing = pd.DataFrame({USER: [], ITEM: [], TIME: []})
    with torch.random.fork_rng(devices=[]), _settled(nothing, name, settings, catalogue) as config:
        sizes = {USER: users + 1, ITEM: len(catalogue) + 1}
        stub = SimpleNamespace(num=sizes.__getitem__, user_num=sizes[USER], item_num=sizes[ITEM])
        stub.field2seqlen = {"item_id_list": config["MAX_ITEM_LIST_LENGTH"]}
        try:
            network: nn.Module = get_model(name)(config, stub).to(config["device"])
        except AttributeError:
            return None
        return network


def interaction(columns: Mapping[str, torch.Tensor]) -> Any:
    """Return RecBole's batch of these columns."""
    return Interaction(dict(columns))


def _refused(name: str, error: Exception) -> TrainingError:
    said = " ".join(str(error).split())
    return TrainingError(
        f"RecBole's {name} cannot be trained on these events with these settings ({type(error).__name__}: {said}). Change "
        "models.recbole.options, or choose another model."
    )


@contextmanager
def _settled(events: pd.DataFrame, name: str, settings: Mapping[str, Any], catalogue: IntArray) -> Iterator[Any]:
    """Provide RecBole's Config, with negatives if the model's loss needs them."""
    given = dict(settings)
    with recbole_config(events, name, given, catalogue) as config:
        needs = config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE or (
            config["MODEL_TYPE"] == ModelType.GENERAL
            and config["MODEL_INPUT_TYPE"] == InputType.POINTWISE
            and name not in ENCODERS
        )
    if needs and "train_neg_sample_args" not in given:
        given["train_neg_sample_args"] = UNIFORM
    with recbole_config(events, name, given, catalogue) as config:
        yield config


@contextmanager
def _drawing(seed: int, loader: Any) -> Iterator[None]:
    """Seed every generator that RecBole draws from, and restore them on exit."""
    numbers, python = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    loader.generator.manual_seed(seed % 2**32)
    cuda = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(numbers)
        random.setstate(python)


def visible_gpus() -> str:
    """Return the GPUs that this process may use, as RecBole writes them."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
