"""A transition of a flow run that the server has made, although its answer did not arrive.

Prefect's client then sends the transition again. The server rejects the second one and returns its own copy of the state, which
has no result: the flow has ended well, but its caller gets `MissingResult`.
"""

from __future__ import annotations

from functools import wraps
from typing import Any
from uuid import UUID

from prefect.client.schemas import OrchestrationResult, SetStateStatus
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import StateAcceptDetails
from prefect.context import SyncClientContext

__all__ = ["accept_repeated_transitions"]


def accept_repeated_transitions() -> None:
    """Let the client of this flow run accept a transition that the server has already made.

    Prefect's engine keeps the result of an accepted state. It proposes the state after the flow's function has returned, so no
    code round that function can catch the rejection.
    """
    context = SyncClientContext.get()
    if context is None or "set_flow_run_state" in vars(context.client):  # a flow within a flow has the same client
        return
    propose = context.client.set_flow_run_state

    @wraps(propose)
    def proposed(flow_run_id: UUID | str, state: State[Any], force: bool = False) -> OrchestrationResult[Any]:
        answer = propose(flow_run_id, state, force)
        made = answer.state.state_details.transition_id if answer.state is not None else None
        if answer.status is SetStateStatus.REJECT and made is not None and made == state.state_details.transition_id:
            return answer.model_copy(update={"status": SetStateStatus.ACCEPT, "details": StateAcceptDetails()})
        return answer

    context.client.set_flow_run_state = proposed  # type: ignore[method-assign]
