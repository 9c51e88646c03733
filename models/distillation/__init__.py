"""Several networks distilled into one: the same kind is trained with other seeds first, and the last network learns their predictions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
