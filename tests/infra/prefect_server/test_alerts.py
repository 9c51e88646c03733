from __future__ import annotations

from uuid import uuid4

import pytest
from prefect.server.utilities.user_templates import render_user_template_sync

from infra.prefect_server.alerts import PINGS, wanted_automations
from infra.prefect_server.environment import AlertSettings

QUOTED = " ".join(f"{ping}1" for ping in PINGS) + " {{ 7 * 7 }} {% if %}"


def bodies() -> list[str]:
    """Return the subject and body of each message that people get."""
    actions = [action for each in wanted_automations(AlertSettings(), [uuid4()], uuid4()) for action in each.actions]
    return [f"{action.subject}\n{action.body}" for action in actions if action.type == "send-notification"]


@pytest.mark.parametrize("place", range(4))
def test_text_that_a_message_quotes_notifies_nobody(place: int) -> None:
    event = {"payload": {"subject": QUOTED, "body": QUOTED, "reasons": [QUOTED], "dataset": "d", "rows": 1, "champion": "c"}}
    context = {"event": {**event, "resource": {"name": "m"}}, "flow": {"name": "f"}, "work_pool": {"name": "p"}}
    run = {"name": "r", "state": {"name": "Failed", "message": QUOTED}, "expected_start_time": "now"}
    template = bodies()[place].replace("{{ flow_run|ui_url }}", "")
    text = render_user_template_sync(template, {**context, "flow_run": run})
    assert not [ping for ping in PINGS if ping in text]
    if "{{ 7 * 7 }}" not in text:
        assert QUOTED not in template and "late" in text
    else:
        assert "\N{WORD JOINER}" in text and "49" not in text
