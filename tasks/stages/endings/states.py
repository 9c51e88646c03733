"""Names of flow runs, and the states in which they end.

The type of a state stays what it was, COMPLETED or FAILED, and programs go by it. Its name and message are for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar, cast, get_type_hints
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from configs.errors import RecsysError
from configs.settings import StoreSettings
from infra.pages import visible
from infra.version_names import shortened
from tasks.best_effort import attempt
from tasks.lineage import Touched, follow, lineage_is_on
from tasks.stages.endings.transitions import accept_repeated_transitions

__all__ = ["dated", "ended", "fails_with_a_sentence"]

P = ParamSpec("P")
T = TypeVar("T")
LONGEST = 500  # characters of a message


def dated(template: str) -> Callable[[], str]:
    """Return what names a run when it starts: the template, filled in with the run's parameters, and the time in UTC."""

    def name() -> str:
        return f"{shortened(template.format(**flow_run.parameters))}, {datetime.now(UTC):%-d %b %H:%M}"

    return name


def ended(name: str, message: str, result: T, run_name: str = "") -> T:
    """Return the completed state of this flow run. Whoever calls the flow gets `result`.

    Args:
        name: Name of the state, one or two words that say what happened. The list of runs shows it.
        message: What a person wants to know first, in a few sentences.
        result: Result of the flow.
        run_name: New name of the run. By default it keeps its name.
    """
    if flow_run.id is None:  # not within a run: the flow's function was called as such
        return result
    if run_name:
        attempt("The name of the run", _rename, get_run_logger(), shortened(run_name))
    # Prefect takes a state that a flow returns as the flow's state, and gives the caller the result in it.
    return cast(T, Completed(name=name, message=_message(message), data=result))


def fails_with_a_sentence(run: Callable[P, T]) -> Callable[P, T]:
    """Let a flow that fails with an error of the product say only what went wrong, in the error's first paragraph.

    Whoever calls the flow gets the error itself. Any other error keeps Prefect's message, and its traceback in the log.
    """

    @wraps(run)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        if flow_run.id is None:  # not within a run
            return run(*args, **kwargs)
        accept_repeated_transitions()
        with _followed(run, args, kwargs) as outcome:
            try:
                outcome.result = run(*args, **kwargs)
                return cast(T, outcome.result)
            except RecsysError as error:
                outcome.failure = _message(str(error).strip().partition("\n")[0] or type(error).__name__)
                failed: Any = Failed(message=outcome.failure, data=error)
                return cast(T, failed)

    # Prefect builds the form of a flow from these, and would look up the names of types in this module.
    guarded.__annotations__ = get_type_hints(run, include_extras=True)
    vars(guarded)["__signature__"] = signature(run, eval_str=True)
    return guarded


@dataclass
class _Outcome:
    """What became of a run: its result, or the state that holds it, or why it failed."""

    result: Any = None
    failure: str | None = None


@contextmanager
def _followed(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[_Outcome]:
    """Send the lineage of this flow run, if the environment asks for it. The block fills in its outcome."""
    outcome = _Outcome()
    if not lineage_is_on():
        yield outcome
        return
    from tasks.lineage import touched_by  # it imports what most flows do not need

    bound = signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    parameters, flow, log = bound.arguments, str(flow_run.flow_name), get_run_logger()
    settings = parameters.get("settings")
    store, data, name = (parameters.get(key) or getattr(settings, key, None) for key in ("store", "data", "model_name"))
    subject = getattr(data, "dataset_name", None) if flow == "etl" else name
    place = store if isinstance(store, StoreSettings) else StoreSettings()
    started = attempt("The lineage of the run", touched_by, log, flow, parameters) or Touched()
    with follow(str(flow_run.id), ".".join(filter(None, (flow, subject))), place, started, log) as run:
        yield outcome
        run.failure = outcome.failure
        if run.failure is None:
            result = outcome.result.data if isinstance(outcome.result, State) else outcome.result
            run.touched = attempt("The lineage of the run", touched_by, log, flow, parameters, result) or started


def _message(text: str) -> str:
    line = visible(shortened(" ".join(text.split())))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 4].rstrip()} ..."


def _rename(name: str) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_name(UUID(str(flow_run.id)), visible(name))
