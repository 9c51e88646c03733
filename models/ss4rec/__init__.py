"""SS4Rec (Xiao et al., arXiv 2502.08132): sequential recommendation for irregularly spaced events.

Each block runs a time-aware state space layer (S5, discretised by the real intervals) and then a relation-aware one
(Mamba). `scan` holds the one recurrence under both, `time_aware` and `relation_aware` the layers, `network` the stack,
`recommender` the model behind the port.
"""
