"""A rollout in a worker: which users get the new version, and what the worker measures of both.

What decides on the measurements is in `tasks.rollout`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
