"""What runs on a Prefect server beside the flows: work pools, deployments, automations, and the credentials of pods."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
