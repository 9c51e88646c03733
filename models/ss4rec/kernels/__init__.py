"""The numerical kernels of SS4Rec: scans over segments, and a step of the recurrence, on CPU and GPU.

Functions of tensors and arrays belong here, each with the same result on every backend. Layers and weights belong to
`models.ss4rec`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
