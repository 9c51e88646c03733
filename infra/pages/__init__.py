"""HTML pages, figures and Markdown for people: one Jinja environment, one base page, one palette.

What two pages share belongs here. The templates and texts of a page are in the package that it is about.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
