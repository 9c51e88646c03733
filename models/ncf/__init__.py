"""NCF (He et al. 2017), the baseline: its training with RecBole's network, and its scoring for serving.

Only what is particular to NCF belongs here. The training loop belongs to `models.training`, and RecBole to
`models.recbole_bridge`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
