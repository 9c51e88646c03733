"""What a Prefect server holds beside the flows: work pools, deployments, automations, and blocks with credentials.

`recsys setup` brings a server into the state that an environment's settings define. The flows themselves belong to `flows`, and
the worker that rents pods to `packages/prefect-runpod`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
