"""The tasks of the flow `housekeeping`: delete what is old, and show that everything from the schedule to the message works."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
