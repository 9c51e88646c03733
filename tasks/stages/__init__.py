"""Prefect tasks: each is a thin wrapper around a plain function of the other packages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
