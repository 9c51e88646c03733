"""RunPod's refusals and failures, sorted by what the caller should do (after the table of statuses on the API's create page)."""

from __future__ import annotations

from typing import Any

from prefect_runpod.errors import PodError

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

# Observed texts that mean a lack of machines. Status 400 means either that or a broken rule.
CAPACITY = ("no longer any instances", "does not have the resources")


class RunPodError(PodError):
    """RunPod refused or failed a request."""


class AccountError(RunPodError):
    """401, 402, or 403 outside of a create: the key or the balance is the problem. A retry does not help."""


class RequestRefusedError(RunPodError):
    """413, 422 and similar: the request itself is wrong. `errors` has RunPod's reasons."""

    def __init__(self, message: str, errors: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class CandidateRefusedError(RunPodError):
    """400 to a create: no machine is free, or a rule is broken. Only the text shows which one, so `capacity` is advisory."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.capacity = any(text in detail.lower() for text in CAPACITY)


class CandidateForbiddenError(RunPodError):
    """403 to a create: this GPU type or location is not open to the account."""


class PodNotFoundError(RunPodError):
    """404: the pod does not exist."""


class PodConflictError(RunPodError):
    """409: the pod's status or lock does not allow the request now."""


class UnavailableError(RunPodError):
    """5xx, no connection, or an unreadable answer: the error may be transient."""


class RateLimitedError(UnavailableError):
    """429: too many requests. `wait_s` is Retry-After in seconds."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class AmbiguousError(RunPodError):
    """The outcome of a create is unknown: a pod may exist and be billed."""


def sorted_error(status: int, problem: dict[str, Any], what: str, *, creating: bool, wait_s: float) -> RunPodError:
    """Return the error for an answer. Other parts of the answer are not read: a body may carry the environment of a pod.

    Args:
        status: HTTP status.
        problem: The problem+json of the answer.
        what: The request, in words.
        creating: Whether the request was a create.
        wait_s: Retry-After in seconds.
    """
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
    return RequestRefusedError(f"{said} Correct the work pool's job variables.", reasons)
