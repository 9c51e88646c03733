from .base import Store
from .local import LEFTOVER_S
from .open import open_store
from .s3 import S3Store

__all__ = ["LEFTOVER_S", "S3Store", "Store", "open_store"]
