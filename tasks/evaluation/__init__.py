"""The evaluation of trained models: ranking metrics, the clean load check, reports and audits of a version."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
