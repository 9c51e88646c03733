"""Which items a user has, as a sparse matrix, and which of them users have together.

Models that are counted instead of trained (EASE, ItemKNN, Markov) begin with it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
