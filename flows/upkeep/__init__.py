"""Flows that keep an installation in order while nobody looks.

`housekeeping` deletes what is old, and shows each day that everything works.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
