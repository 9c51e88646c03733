"""The settings of searches, comparisons and replays, each on top of the settings of a retraining.

A setting belongs here if only such a study reads it. What a single retraining reads belongs to `configs.settings`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
