"""A/B experiments: assignment, the exposure log, and the report with its validity checks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
