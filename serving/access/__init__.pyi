from .clients import Clients, Refusal
from .keys import Keys, needs_key, refuse_open, scope_of, watch_keys

__all__ = ["Clients", "Keys", "Refusal", "needs_key", "refuse_open", "scope_of", "watch_keys"]
