"""The plugins in `examples/`, as the tests use them in their own process."""

from __future__ import annotations

import sys
from pathlib import Path

from configs.kinds import register

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PLUGINS = {"my_sasrec": "sasrec_plugin", "my_itemknn": "itemknn_plugin"}


def use_examples() -> None:
    """Make the kinds of the example plugins known in this process, as `models.plugins` does."""
    for name in PLUGINS.values():
        folder = str(EXAMPLES / name)
        if folder not in sys.path:
            sys.path.append(folder)
    register([f"{name}:SPEC" for name in PLUGINS.values()])
