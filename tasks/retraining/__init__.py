"""When a model is trained again: the policies, what they are asked about, today's answer, and its page.

Replays and monitoring decide by the same rules. What starts the retraining is an automation of the Prefect server.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
