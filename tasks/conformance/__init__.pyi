from .findings import Finding
from .run import check_kind

__all__ = ["Finding", "check_kind"]
