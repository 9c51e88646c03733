"""Finds the items with the greatest scores exactly, without computing the scores of all items.

`blocks` describes the item vectors in few bytes, `search` passes over the items that cannot be among the best, and `index` puts both
together. It is for models whose score is the inner product of a user's vector and an item's.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
