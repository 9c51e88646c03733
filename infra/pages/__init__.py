"""HTML pages and figures for people: one Jinja environment, one base page, one palette."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
