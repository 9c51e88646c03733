"""The engine that answers recommendation requests in batches, and what it holds of a model version.

What turns users' events into an answer belongs here. Filters and business rules are in `serving.reranking`, storage of events
and states is in `serving.state`, and the choice of versions is in `serving.follower` and `serving.experiments`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
