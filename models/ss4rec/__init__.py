"""SS4Rec (Xiao et al., arXiv 2502.08132): sequential recommendation for irregularly spaced events.

Each block runs a time-aware state space layer (S5, discretised with the real intervals) and then a relation-aware one (Mamba).
`time_aware` and `relation_aware` are the layers, `network` stacks them, and `recommender` makes the network a `Recommender`.
`recurrent` reads events one by one, for serving. The recurrence that both layers share belongs to `kernels`, and the training
loop to `models.training`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
