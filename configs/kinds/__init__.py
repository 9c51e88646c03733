"""The kinds of models: what each one is (`ModelSpec`), and the registry that finds them.

A kind is built in, comes from an installed package (entry point group `recsys.models`), or is named in `models.plugins`. A spec
names its classes as text, because torch takes seconds to import and settings need none of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
