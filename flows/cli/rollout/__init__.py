"""`recsys rollout`: how far a new champion is rolled out, and the steps that a person takes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
