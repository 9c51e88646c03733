"""The sequential models that a team would pick instead of SS4Rec, on one trainer: SASRec, gSASRec, eSASRec, HSTU and LRURec.

Each network is one module, to be read beside its paper. `recommender` trains any of them on the windows, losses, schedule and
ranking that SS4Rec has, so that a comparison compares networks. They are served by the general form.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
