"""RunPod's REST API: a client that keeps to its limits, what it returns, and what can go wrong."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
