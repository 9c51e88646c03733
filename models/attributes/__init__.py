"""Vectors for items from what is known of them beside their events: genres, year, title and the team's own attributes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
