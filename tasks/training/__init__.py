"""The training of candidates, in this process or in one of its own, and their transfer between machines.

The models and their training loop belong to `models`. What is trained for which gate is decided in `flows.challenge`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
