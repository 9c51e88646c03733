"""What RunPod can refuse or fail, sorted by what is to be done (its create page's own table of statuses)."""

from __future__ import annotations

from typing import Any

from configs.errors import RecsysError

__all__ = [
    "AccountError",
    "AmbiguousError",
    "CandidateForbiddenError",
    "CandidateRefusedError",
    "PodConflictError",
    "PodNotFoundError",
    "RateLimitedError",
    "RequestRefusedError",
    "RunPodError",
    "UnavailableError",
    "sorted_error",
]

# Texts seen of a lack of machines; status 400 means that, or a broken rule.
CAPACITY = ("no longer any instances", "does not have the resources")


class RunPodError(RecsysError):
    """RunPod refused or failed a request."""


class AccountError(RunPodError):
    """401, 402, 403 outside of a create: the key or the balance; no repetition helps."""


class RequestRefusedError(RunPodError):
    """413, 422 and the like: the request itself is wrong; `errors` are RunPod's reasons."""

    def __init__(self, message: str, errors: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class CandidateRefusedError(RunPodError):
    """400 to a create: no machine is free, or a rule is broken; only the text tells them apart, so `capacity` is advisory."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.capacity = any(text in detail.lower() for text in CAPACITY)


class CandidateForbiddenError(RunPodError):
    """403 to a create: this GPU type or place is not open to the account."""


class PodNotFoundError(RunPodError):
    """404: the pod does not exist."""


class PodConflictError(RunPodError):
    """409: the pod's status or lock does not allow it now."""


class UnavailableError(RunPodError):
    """5xx, no connection, or an answer that cannot be read: it may pass."""


class RateLimitedError(UnavailableError):
    """429; `wait_s` is Retry-After."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class AmbiguousError(RunPodError):
    """A create without an answer that settles it: a pod may exist and be billed."""


def sorted_error(status: int, problem: dict[str, Any], what: str, *, creating: bool, wait_s: float) -> RunPodError:
    """The error of an answer: `status`, its problem+json, and `what` was asked for in words. Reads no other part of it: a
    body may carry a pod's environment."""
    detail = str(problem.get("detail") or problem.get("title") or "no reason given")
    reasons = tuple(str(reason) for reason in problem.get("errors") or ())
    said = f"RunPod answered {status} to {what}: {detail}{''.join(f'; {reason}' for reason in reasons)}."
    if status == 401:
        return AccountError(f"{said} Check the key in the RunPod Credentials block or RUNPOD_API_KEY.")
    if status == 402:
        return AccountError(f"{said} Top up the account; nothing was rented.")
    if status == 403:
        return CandidateForbiddenError(said) if creating else AccountError(f"{said} The key lacks the right to do this.")
    if status == 404 and not creating:
        return PodNotFoundError(said)
    if status == 409:
        return PodConflictError(said)
    if status == 429:
        return RateLimitedError(said, wait_s)
    if status == 400 and creating:
        return CandidateRefusedError(said, detail)
    if status >= 500 or status == 408:
        return AmbiguousError(said) if creating else UnavailableError(said)
    return RequestRefusedError(f"{said} Mend the work pool's job variables.", reasons)
