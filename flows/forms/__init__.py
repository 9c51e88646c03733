"""The forms of the deployments in the Prefect UI: what a person sees of a flow's settings, and how a flow reads what is filled in."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
