"""Rented GPUs: a client of RunPod's REST API v2, the Prefect worker `runpod`, and the program that runs inside a pod.

Only `account`, `worker`, `job`, `block` and `prefect_runs` import Prefect.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
