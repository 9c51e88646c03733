"""A web demo: what is recommended and why, what the pipeline decided, and what experiments have shown.

The pages are in `serving.demo.views`, one module each. What several pages share belongs here. Nothing else imports the demo.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
