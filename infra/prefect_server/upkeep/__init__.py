"""What keeps a Prefect server going for years: lost runs free their slots, silence is noticed, and old data goes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
