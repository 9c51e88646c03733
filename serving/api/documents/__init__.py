"""The description of the HTTP API: the OpenAPI document, its examples, and the page that shows it without the internet."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
