"""Client of RunPod's REST API v2 (https://docs.runpod.io/api-reference-v2), based on httpx.

Reads and deletes are retried with backoff. A create is retried only if it cannot have made a pod. If the outcome is unknown,
the client raises AmbiguousError, and the caller looks for the pod first. Every wait is bounded, and whatever an answer contains,
the result is a value or a RunPodError. Bodies never appear in logs or messages: the environment of a pod carries secrets.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, SecretStr, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential

from prefect_runpod.api.errors import (
    AmbiguousError,
    PodNotFoundError,
    RateLimitedError,
    RunPodError,
    UnavailableError,
    sorted_error,
)
from prefect_runpod.api.pacing import Kind, Pace
from prefect_runpod.api.pods import GpuType, Pod
from prefect_runpod.settings import USER_AGENT, RunPodSettings
from prefect_runpod.texts.redaction import masked, secrets_of

__all__ = ["RunPodClient"]

LOG = logging.getLogger(__name__)
Answer = TypeVar("Answer", bound=BaseModel)
CLOSE_S = 2.0  # a smaller difference is ignored: the Date header is rounded, and the answer took some time
COMPLETE = 3.0  # an answer that keeps trickling in may take so many times as long as one without a byte
KINDS: dict[str, Kind] = {"POST": "create", "DELETE": "delete"}
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class RunPodClient:
    """Client of one account, to be used as an async context manager. Raises RunPodError or one of its subclasses."""

    def __init__(
        self,
        api_key: SecretStr,
        settings: RunPodSettings,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        pace: Pace | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._sleep, self._now = settings, sleep, now
        self._ahead_s = 0.0
        self._pace = pace or Pace(settings.requests_per_minute, sleep=sleep)
        self._http = httpx.AsyncClient(
            base_url=f"{settings.base_url}/v2",
            headers={"Authorization": f"Bearer {api_key.get_secret_value()}", "User-Agent": USER_AGENT},
            timeout=settings.timeout_s,
            transport=transport,
        )

    async def __aenter__(self) -> RunPodClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def time(self) -> datetime:
        """Return the current time by the clock that dates the pods: RunPod's clock, according to its last answer."""
        return self._now() - timedelta(seconds=self._ahead_s)

    async def list_pods(self, attempts: int = 1) -> list[Pod]:
        """Return the pods of the account, each once.

        A list is a hint. It may be cut or out of date, and entries that cannot be read are left out, so a pod that is not on it
        may exist all the same. A caller that lists at a steady pace needs only one attempt.
        """
        answer = await self._patiently("GET", "/pods", "the request for the list of pods", attempts=attempts)
        found: dict[str, Pod] = {}
        for pod in _entries(answer, "pods", Pod):
            found.setdefault(pod.id, pod)
        return list(found.values())

    async def get_pod(self, pod_id: str, attempts: int | None = None) -> Pod:
        """Return a pod. Raises PodNotFoundError if it does not exist."""
        what = f"the request for pod {pod_id}"
        pod = _read(await self._patiently("GET", f"/pods/{pod_id}", what, attempts=attempts), Pod, what)
        if pod.id != pod_id:
            raise UnavailableError(f"RunPod answered {what} with the pod {pod.id}.")
        return pod

    async def create_pod(self, body: dict[str, Any]) -> Pod:
        """Rent one pod, in a single attempt. Only 429 is retried, because then no pod was made.

        Raises:
            CandidateRefusedError: Try another candidate.
            CandidateForbiddenError: Try another candidate.
            UnavailableError: No pod was made. Try again.
            AmbiguousError: A pod may exist. Look for it.
            AccountError: Trying again does not help.
            RequestRefusedError: Trying again does not help.
        """
        what = f"the request to create pod {body.get('name', '')}"
        try:
            answer: Any = await self._retrying(RateLimitedError)(self._once, "POST", "/pods", what, creating=True, body=body)
            return _read(answer, Pod, what)
        except RateLimitedError:
            raise
        except UnavailableError as error:
            if not isinstance(error.__cause__, NEVER_SENT):  # an unreadable answer, perhaps a 201
                raise AmbiguousError(str(error)) from error
            raise

    async def delete_pod(self, pod_id: str) -> bool:
        """Delete the pod. Returns False if it no longer existed. Raises PodConflictError if it is locked."""
        try:
            await self._patiently("DELETE", f"/pods/{pod_id}", f"the request to delete pod {pod_id}")
        except PodNotFoundError:
            return False
        return True

    async def gpu_types(self, *, count: int, cloud: str) -> list[GpuType]:
        """Return the catalogue, with the availability for pods of `count` GPUs in `cloud`. Nothing is reserved."""
        query = {"include": "AVAILABILITY", "product": "POD", "count": str(count), "cloud": cloud}
        answer = await self._patiently("GET", "/catalog/gpus", "the request for the GPU catalogue", query)
        return _entries(answer, "gpus", GpuType)

    async def log_tail(self, pod_id: str, lines: int, seconds: float = 5.0) -> list[str]:
        """Return the last lines of the pod's log, at most `lines`. This is best effort.

        The stream stays open, so reading stops after `seconds`, perhaps with fewer lines. If the request fails, the result is
        empty.
        """
        found: deque[str] = deque(maxlen=lines)
        if lines == 0:
            return []
        await self._pace.turn()
        with suppress(httpx.HTTPError, TimeoutError):
            async with (
                asyncio.timeout(seconds),
                self._http.stream("GET", f"/pods/{pod_id}/logs", params={"tail": str(lines)}) as answer,
            ):
                self._pace.heed(answer.headers)
                if answer.status_code == 200:
                    async for line in answer.aiter_lines():
                        if line.startswith("data:"):
                            found.append(_log_line(line.removeprefix("data:")))
        return list(found)

    async def _patiently(
        self, method: str, path: str, what: str, query: dict[str, str] | None = None, attempts: int | None = None
    ) -> Any:
        """Send an idempotent request, and retry it after transient errors."""
        return await self._retrying(UnavailableError, attempts)(self._once, method, path, what, query=query)

    def _retrying(self, transient: type[RunPodError], attempts: int | None = None) -> AsyncRetrying:
        growing = wait_exponential(self._settings.backoff_s, max=self._settings.max_backoff_s)

        def wait_s(state: RetryCallState) -> float:
            if state.outcome is not None and isinstance(state.outcome.exception(), RateLimitedError):
                return 0.0  # the pace already waits for Retry-After
            return growing(state) * random.uniform(0.75, 1.25)

        return AsyncRetrying(
            retry=retry_if_exception_type(transient),
            stop=stop_after_attempt(attempts or self._settings.attempts),
            wait=wait_s,
            sleep=self._sleep,
            reraise=True,
        )

    async def _once(
        self,
        method: str,
        path: str,
        what: str,
        *,
        creating: bool = False,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Any:
        kind = KINDS.get(method, "read")
        await self._pace.turn(kind)
        try:
            async with asyncio.timeout(COMPLETE * self._settings.timeout_s):
                answer = await self._http.request(method, path, params=query, json=body)
        except (httpx.HTTPError, TimeoutError) as error:
            said = f"RunPod at {self._settings.base_url} did not answer {what} ({type(error).__name__})."
            if creating and not isinstance(error, NEVER_SENT):
                raise AmbiguousError(said) from error
            raise UnavailableError(said) from error
        self._pace.heed(answer.headers)
        self._heed_time(answer.headers)
        if answer.is_success:
            return _json(answer, what)
        wait_s = _seconds(answer.headers.get("retry-after"))
        if answer.status_code == 429:
            self._pace.pause(wait_s, kind)
        problem = _problem(answer, secrets_of(body["env"]) if body is not None and "env" in body else [])
        raise sorted_error(answer.status_code, problem, what, creating=creating, wait_s=wait_s)

    def _heed_time(self, headers: Mapping[str, str]) -> None:
        # A proxy may have removed the header, or sent a date without a zone.
        with suppress(ValueError, TypeError, OverflowError):
            ahead = (self._now() - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
            self._ahead_s = ahead if abs(ahead) > CLOSE_S else 0.0


def _problem(answer: httpx.Response, secrets: list[str]) -> dict[str, Any]:
    """Return the problem+json of an error, or an empty one if a proxy in between has answered with a page instead.

    The answer may quote the request, so the secrets are masked.
    """
    try:
        problem = answer.json()
    except (ValueError, RecursionError):
        return {}
    if not isinstance(problem, dict):
        return {}
    errors = problem.get("errors")
    shown = {name: masked(str(problem[name]), secrets) for name in ("title", "detail") if problem.get(name)}
    return {**shown, "errors": [masked(str(error), secrets) for error in errors] if isinstance(errors, list) else []}


def _json(answer: httpx.Response, what: str) -> Any:
    if answer.status_code == 204 or not answer.content:
        return None
    try:
        return answer.json()
    except (ValueError, RecursionError) as error:
        raise UnavailableError(f"RunPod's answer to {what} is not JSON ({answer.status_code}).") from error


def _read(content: Any, model: type[Answer], what: str) -> Answer:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "as a whole"
        raise UnavailableError(f"RunPod's answer to {what} cannot be read ({where}: {first['msg']}).") from None


def _entries(content: Any, name: str, model: type[Answer]) -> list[Answer]:
    """Return the entries of a list that can be read. One odd entry must not hide the others. Raises UnavailableError for no list."""
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise UnavailableError(f"RunPod's answer has no list {name!r}.")
    entries: list[Answer] = []
    failed: UnavailableError | None = None
    for entry in found:
        try:
            entries.append(_read(entry, model, f"the request for the list of {name}"))
        except UnavailableError as error:
            failed = error
    if failed is not None:
        if not entries:
            raise failed
        LOG.warning("%d of %d %s in RunPod's answer are left out. %s", len(found) - len(entries), len(found), name, failed)
    return entries


def _seconds(header: str | None) -> float:
    """Return Retry-After in seconds. If it is missing, return a minute, which is the window of RunPod's shortest limit."""
    return float(header) if header is not None and header.isdecimal() else 60.0


def _log_line(data: str) -> str:
    try:
        line = str(json.loads(data)["line"])
    except (ValueError, KeyError, TypeError, RecursionError):
        line = data.strip()
    return line.replace("\x00", "")  # PostgreSQL does not accept this character in a text
