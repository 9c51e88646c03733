"""Monitoring: drift of the newest events from the champion's reference, and the live quality of the champion.

A new drift check belongs here, with its statistic and its effect. What a run does when data has drifted is decided in `flows` and by
automations.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
