"""A client of RunPod's REST API v2: requests within its rate limits, what they return, and what can go wrong.

It knows pods and GPU types, but no flow runs. What to rent, keep or delete is decided in `prefect_runpod`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
