"""A Prefect worker that rents a RunPod pod for each flow run, and deletes it when the run has ended.

Only `account`, `worker`, `job`, `block` and `prefect_runs` import Prefect. Decisions about a pod are pure functions in
`pods.verdict`. The client of RunPod's API is `prefect_runpod.api`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
