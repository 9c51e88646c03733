"""The edge of the product: object stores, downloads, locks, pages for people, the Prefect server and RunPod.

What talks to another system, or to the file system on behalf of several processes, belongs here. It knows nothing of datasets,
models and decisions, and raises the errors of `configs.errors`.
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

if PathFinder.find_spec("prefect_runpod") is None:  # in a checkout, the distribution of the RunPod worker lies beside
    sys.path.append(str(Path(__file__).parents[1] / "packages" / "prefect-runpod"))
