"""The promotion gate: the decision whether a challenger replaces the champion, its publication and rollback."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
