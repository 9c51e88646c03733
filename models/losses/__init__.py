"""Losses of the next item: cross-entropy over the whole catalogue, sampled softmax, and gSASRec's calibrated cross-entropy.

`NextItemLoss` chooses one by its name. All of them take hidden states, the items' vectors and targets, and know no network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
