"""The state of users: their events and the state of each model, in Redis, in memory, or in both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
