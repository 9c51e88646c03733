"""Comparisons of several models, each trained with several seeds, on one dataset version under one protocol.

Here belong what a comparison consists of, one run of it, its runs in the store, and its results, figures and report. The metrics
and tests come from `models.evaluation`. How runs are spread over threads, a cluster or deployments is decided in
`flows.compare`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
