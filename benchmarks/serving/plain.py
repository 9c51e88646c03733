"""Reference servers: `python -m benchmarks.serving.plain serve`. Three re-read a user's history for each request.

`reencode` is this product's server with its kernels and batches, but it never finds a stored state. `torch` is a typical
implementation: FastAPI, the torch model's own pass over the full history in memory, and torch.topk, in the server's threads.
`sasrec` does the same with RecBole's SASRec, its default layers and width and the latest 50 events, as a typical transformer
server would. `canned` returns the same answer each time, so it shows what the framework itself takes.

`benchmarks.serving.load` and `benchmarks.serving.framework` start them. They set RECSYS_PLAIN (which of them), RECSYS_PLAIN_FOLDER (the
model's files) and RECSYS_PLAIN_USERS (the number of users with a history).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from configs.loading import load_settings
from configs.serving import ServingSettings

if TYPE_CHECKING:
    import torch

    from benchmarks.serving.world import History
    from models.recommender import IntArray

KIND = "RECSYS_PLAIN"
APPLICATIONS = {"reencode": "reencoding", "torch": "plain", "sasrec": "sasrec", "canned": "canned"}


class Asked(BaseModel):
    """The body of a request to the plain server."""

    user_id: int
    k: int = 10


def reencoding() -> Any:
    """Return the product's application, changed so that it never finds a stored state."""
    from serving.api import app as api
    from serving.engine import user_states
    from serving.state import store as state

    class Forgetful(state.UserState):
        @classmethod
        def read(cls, content: bytes | None, size: int) -> None:
            return None

    setattr(user_states, "UserState", Forgetful)  # noqa: B010 (user_states imports the name)
    return api.from_environment()


def plain() -> Any:
    """Return a FastAPI application over the torch model."""
    import numpy as np

    from models.recommender import Requests
    from models.ss4rec import SS4Rec

    model = SS4Rec.load(Path(os.environ["RECSYS_PLAIN_FOLDER"]))

    def scores(user: int, history: History) -> torch.Tensor:
        request = Requests(
            user_ids=np.array([user]),
            offsets=np.array([0, len(history.items)]),
            item_ids=history.items,
            timestamps=history.times,
            request_times=history.times[-1:] + 60,
            targets=np.zeros(1, np.int64),
        )
        return model.scores(request)[0]

    return _application(model.catalogue, scores)


def sasrec() -> Any:
    """Return a FastAPI application over RecBole's SASRec with initial weights and the size of the catalogue."""
    import numpy as np
    import pyarrow.parquet as pq
    import torch
    from recbole.model.sequential_recommender import SASRec

    catalogue = pq.read_table(Path(os.environ["RECSYS_PLAIN_FOLDER"]) / "vocabulary.parquet")["item_id"].to_numpy()
    names = {"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "LIST_SUFFIX": "_list", "NEG_PREFIX": "neg_"}
    lists = {"ITEM_LIST_LENGTH_FIELD": "length", "MAX_ITEM_LIST_LENGTH": 50, "device": "cpu"}
    # These are the defaults of RecBole's SASRec.yaml.
    layers = {"n_layers": 2, "n_heads": 2, "hidden_size": 64, "inner_size": 256, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
    drawn = {"hidden_dropout_prob": 0.5, "attn_dropout_prob": 0.5, "initializer_range": 0.02, "loss_type": "CE"}

    class Items:
        def num(self, field: str) -> int:
            return len(catalogue) + 1

    model = SASRec({**names, **lists, **layers, **drawn}, Items()).eval()

    @torch.no_grad()
    def scores(user: int, history: History) -> torch.Tensor:
        latest = np.zeros((1, 50), np.int64)
        own = history.items[-50:]
        latest[0, : len(own)] = own
        asked = {"item_list": torch.from_numpy(latest), "length": torch.tensor([len(own)])}
        return model.full_sort_predict(asked)[0, 1:]  # type: ignore[no-any-return]

    return _application(catalogue, scores)


def canned() -> Any:
    """Return the application with the canned answer."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/recommendations")
    async def recommend(body: Asked) -> dict[str, Any]:
        return {"items": [{"item_id": item, "score": 1.5} for item in range(body.k)]}

    return app


def _application(catalogue: IntArray, scores: Callable[[int, History], torch.Tensor]) -> Any:
    import torch
    from fastapi import FastAPI

    from benchmarks.serving.world import histories

    torch.set_num_threads(1)
    people = histories(int(os.environ["RECSYS_PLAIN_USERS"]), len(catalogue), 1)
    app = FastAPI()

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/recommendations")
    def recommend(body: Asked) -> dict[str, Any]:
        history = people[body.user_id % len(people)]
        found = scores(body.user_id, history)
        found[torch.from_numpy(history.items - 1)] = -torch.inf
        best = torch.topk(found, body.k)
        items = zip(catalogue[best.indices.numpy()].tolist(), best.values.tolist(), strict=True)
        return {"items": [{"item_id": item, "score": score} for item, score in items]}

    return app


def main() -> None:
    """Start a server with the product's settings, given as --set key=value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="key=value, may be repeated")
    given = parser.parse_args()
    kind = os.environ.get(KIND, "")
    if kind not in APPLICATIONS:
        parser.error(f"the variable {KIND} must be {', '.join(APPLICATIONS)}; it is {kind!r}")
    import uvicorn

    from serving.api import SETTINGS
    from serving.run import as_json

    settings = load_settings(ServingSettings, None, given.overrides)
    os.environ[SETTINGS] = as_json(settings)
    uvicorn.run(
        f"benchmarks.serving.plain:{APPLICATIONS[kind]}",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
