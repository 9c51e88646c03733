"""The engine that answers recommendation requests in batches, and what it holds of a model version."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
