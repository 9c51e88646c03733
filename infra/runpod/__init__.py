"""Rented GPUs: the Prefect worker `runpod`, the reconciler of pods and flow runs, and the program that runs inside a pod.

Only `account`, `worker`, `job`, `block` and `prefect_runs` import Prefect. Decisions about a pod are pure functions in `verdict`.
The client of RunPod's API belongs to `infra.runpod.api`, and what a run does in its pod to `tasks`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
