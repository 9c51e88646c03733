"""Records of a run for Weights & Biases. Tracking never fails or delays a run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
