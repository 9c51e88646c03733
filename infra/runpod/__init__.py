"""Rented GPUs for this project: its names, settings and advice for the worker of `prefect-runpod`, which rents the pods.

The distribution in `packages/prefect-runpod` knows nothing of this project. Importing this package tells it.
"""

import lazy_loader

from infra.runpod import project

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
project.introduce()
