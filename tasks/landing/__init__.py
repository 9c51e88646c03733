"""Landed files: the events in a landing zone extend a dataset by a new version."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
