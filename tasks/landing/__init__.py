"""Landed files: new files of a landing zone extend a dataset by a new version, and its parts are compacted.

Here belong reading the zone, merging new events into a dataset, and the account of each file. `run` is the story. The zones are in
`infra.landing_zone`, and versions and their log in `tasks.datasets`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
