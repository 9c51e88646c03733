"""`recsys model`: the registered versions of a model, the log of its promotions, and what leaves the store.

Each module adds its commands to the group. `commands` brings them together.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
