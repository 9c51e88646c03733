"""The seconds between two events, as networks read them: their buckets, and a learnt vector for each.

`BUCKETS` and `EDGES` need no torch, because serving has none.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
