"""Find out whether the Prefect server answers, before a command does any work."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from contextvars import copy_context
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from pydantic import ValidationError

from configs.errors import SettingsError
from configs.redaction import shown_address

if TYPE_CHECKING:
    from prefect.settings import Settings

__all__ = ["make_ready", "server_version"]

REACH_S = 8.0  # also bounds the resolution of the name, which has no timeout of its own
ANSWER_S = 30.0  # of a server that is reached, but busy
REMEDY = "Correct PREFECT_API_URL, such as http://127.0.0.1:4200/api."


def make_ready(meanwhile: Callable[[], None] = lambda: None) -> None:
    """Make sure that a Prefect server answers: the one that is set, or else a temporary one, which ends with this process.

    Args:
        meanwhile: What this process does while a temporary server starts, such as imports that take seconds.

    Raises:
        SettingsError: The server does not answer, refuses the credentials, is not a Prefect server or has another major version,
            or the temporary server does not start or has no folder that it can write to.
    """
    settings = _settings()
    if settings.api.url is not None:
        server_version()
        return
    if not settings.server.ephemeral.enabled:
        raise SettingsError(
            "PREFECT_API_URL is not set, and PREFECT_SERVER_EPHEMERAL_ENABLED forbids a temporary server. Set one of them."
        )
    _check_home(settings.home.absolute())
    from infra.prefect_server.temporary import start_temporary_server

    start_temporary_server(meanwhile)


def _check_home(home: Path) -> None:
    """Make sure that Prefect's folder can be written. A server that cannot would end, and say why between the lines of its own errors."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise SettingsError(
            f"Prefect's folder {home} cannot be written ({error.strerror}). Set PREFECT_HOME to a folder that can be written, or "
            "PREFECT_API_URL to a server that runs."
        ) from None


def server_version(answer_s: float | None = None) -> str:
    """Return the version of the Prefect server that is set.

    Args:
        answer_s: Seconds to wait for the answer.

    Raises:
        SettingsError: See `make_ready`.
    """
    address = shown_address(str(_settings().api.url))
    found: list[str | SettingsError] = []
    patience, reached = answer_s or ANSWER_S, threading.Event()
    ask = threading.Thread(target=copy_context().run, args=(_ask, address, patience, reached, found), daemon=True)
    ask.start()
    ask.join(min(REACH_S, patience))
    if reached.is_set():
        ask.join(patience)
    answer = found[0] if found else _silent(address, "no answer in time")
    if isinstance(answer, SettingsError):
        raise answer
    return answer


def _settings() -> Settings:
    """Return Prefect's settings, which are read when Prefect is imported.

    Raises:
        SettingsError: A variable or profile of Prefect is not valid.
    """
    try:
        from prefect.settings import get_current_settings

        return get_current_settings()
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'an address'}: {fault['msg']}" for fault in error.errors())
        raise SettingsError(
            f"The settings of Prefect cannot be used ({faults}). Correct PREFECT_API_URL and the others."
        ) from None


def _ask(address: str, answer_s: float, reached: threading.Event, found: list[str | SettingsError]) -> None:
    try:
        found.append(_version(address, answer_s, reached))
    except SettingsError as error:
        found.append(error)


def _version(address: str, answer_s: float, reached: threading.Event) -> str:
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    def trace(event: str, info: object) -> None:
        if event.endswith("connect_tcp.complete"):
            reached.set()

    wrong = f"{address} is not the API of a Prefect server"
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": httpx.Timeout(answer_s, connect=REACH_S)}, sync_client=True) as client,
        ):
            if client.server_type == ServerType.CLOUD:
                client.request("GET", "/health")
                return "of Prefect Cloud"
            answer = client.request("GET", "/admin/version", extensions={"trace": trace})
        found = answer.json()
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise SettingsError(
                f"The Prefect server at {address} refuses the credentials (status {status}). Set PREFECT_API_AUTH_STRING or "
                "PREFECT_API_KEY."
            ) from None
        if status >= 500 or status == 429:
            raise _silent(address, f"status {status}") from None
        raise SettingsError(f"{wrong}: it answers with status {status}. {REMEDY}") from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise SettingsError(f"{address} is not an address ({error}). {REMEDY}") from None
    except (httpx.HTTPError, OSError) as error:
        raise _silent(address, type(error).__name__) from None
    except ValueError:
        raise SettingsError(f"{wrong}: it answers with something other than JSON. {REMEDY}") from None
    own = installed("prefect")
    if not isinstance(found, str) or not found[:1].isdigit():
        raise SettingsError(f"{wrong}: it answers with something other than its version. {REMEDY}")
    if found.partition(".")[0] != own.partition(".")[0]:
        raise SettingsError(
            f"The Prefect server at {address} has version {found}, but this installation needs {own}. Upgrade the server, or set "
            "PREFECT_API_URL to another one."
        )
    return found


def _silent(address: str, why: str) -> SettingsError:
    return SettingsError(
        f"The Prefect server at {address} does not answer ({why}). Start it, correct PREFECT_API_URL, or unset PREFECT_API_URL to "
        "run without a server."
    )
