"""RecBole: its models behind our interface, and SS4Rec as a RecBole model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
