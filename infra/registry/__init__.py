"""The model registry: versions, which are sealed once, and the log of promotions, which names the champion."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
