"""The edge of the product: object stores, downloads, locks, pages for people, the Prefect server and RunPod.

What talks to another system, or to the file system on behalf of several processes, belongs here. It knows nothing of datasets,
models and decisions, and raises the errors of `configs.errors`.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("prefect_runpod") is None:  # a checkout that is not installed: the distribution of the RunPod worker lies beside
    sys.path.append(str(Path(__file__).parents[1] / "packages" / "prefect-runpod"))
