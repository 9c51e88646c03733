"""Train SS4Rec with RecBole's own Trainer, and judge the stored checkpoint with RecBole's own evaluator.

    python examples/ss4rec_in_recbole.py

The data are the MovieLens 100K that RecBole ships, so nothing is downloaded. The checkpoint goes to `saved/` in the working
folder.
"""

from __future__ import annotations

import sys
from typing import Any

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import init_seed

from models.recbole_bridge import SS4RecForRecBole

SETTINGS: dict[str, Any] = {
    # What RecBole must be told for this model. The rest are its defaults, and the fields of `SS4RecSettings`.
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},  # the model reads times
    "normalize_all": False,  # times must stay seconds
    "train_neg_sample_args": None,  # the losses draw their own negatives
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "MAX_ITEM_LIST_LENGTH": 50,
    "metrics": ["Hit", "NDCG", "MRR"],
    "valid_metric": "NDCG@10",
    "gpu_id": "",  # the CPU; a number chooses a GPU
    "show_progress": False,
}


def train_and_judge(**settings: Any) -> dict[str, float]:
    """Return the metrics of the best epoch on the test part. `settings` override SETTINGS."""
    arguments, sys.argv = sys.argv, sys.argv[:1]  # RecBole parses the command line
    try:
        config = Config(model=SS4RecForRecBole, dataset="ml-100k", config_dict=SETTINGS | settings)
    finally:
        sys.argv = arguments
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, SS4RecForRecBole(config, train._dataset).to(config["device"]))
    trainer.fit(train, valid, verbose=False, saved=True)
    return dict(trainer.evaluate(test))


if __name__ == "__main__":
    print(train_and_judge(epochs=3, width=32, blocks=1, train_batch_size=1024))
