"""The numerical kernels of SS4Rec: scans over segments, a step of the recurrence, and the loss, on CPU and GPU."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
