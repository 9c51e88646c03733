"""The state of users: their events and the state of each model, in Redis, in memory, or in both.

A new store of states belongs here. What a state contains is decided by the model (`models.inference`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
