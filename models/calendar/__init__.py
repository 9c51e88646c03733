"""The hour of the day and the weekday of an event or a request, as networks read them: in UTC, with a learnt vector for each.

`hours_of_week` needs no torch, because serving has none.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
