"""The promotion gate: the decision whether a challenger replaces the champion, its publication, and rollback.

Here belong the rules and what they judge, the decision with its page and notifications, and the steps from a staged version to the
champion. How versions and promotions are stored belongs to `infra.registry`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
