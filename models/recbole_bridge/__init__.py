"""RecBole: its models behind our interface, SS4Rec as a RecBole model, and its split and metrics for comparison.

All imports of RecBole, and all remedies for its side effects, belong here. No other package imports it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
