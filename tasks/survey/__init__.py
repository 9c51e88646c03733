"""Look at events that nobody has described yet: what a file's columns are, what they would be mapped to, and settings that fit.

A survey reads samples and proposes. It decides nothing: what the data leave open stays open, with the alternatives. How events are
read by settings belongs to `tasks.ingest`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
