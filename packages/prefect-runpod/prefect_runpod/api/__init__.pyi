from .client import RunPodClient
from .errors import (
    AmbiguousError,
    CandidateForbiddenError,
    CandidateRefusedError,
    PodNotFoundError,
    RequestRefusedError,
    RunPodError,
    UnavailableError,
)
from .pods import ENDED, GpuType, Pod

__all__ = [
    "ENDED",
    "AmbiguousError",
    "CandidateForbiddenError",
    "CandidateRefusedError",
    "GpuType",
    "Pod",
    "PodNotFoundError",
    "RequestRefusedError",
    "RunPodClient",
    "RunPodError",
    "UnavailableError",
]
