"""The generated reference has every setting, command, route, metric, error and deployment, and the hand-written one every object."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest
from prefect.events.actions import SendNotification
from pydantic import BaseModel

from configs import errors
from configs.annotations import models_in
from configs.base import Settings
from configs.serving import ExperimentFile, RuleFile
from configs.settings import RetrainSettings
from flows.cli.options import models
from infra.prefect_server.alerts import section_of, wanted_automations
from infra.prefect_server.environment import AlertSettings
from infra.runpod import RunPodSettings
from serving.api.responses import Problem
from tests.infra.test_production_files import AREAS
from website.glossary import explained, terms_in
from website.hooks import FROM_ROOT, in_site
from website.reference import PAGES, commands, http_api, metrics

ROOT = Path(__file__).parents[2]


@cache
def page(name: str) -> str:
    return PAGES[f"reference/{name}.md"]()


def keys_below(model: type[BaseModel], above: str = "") -> set[str]:
    """Return the keys of all settings below a model, by a walk of its own."""
    found = set()
    for name, field in model.model_fields.items():
        sections = [
            below for below in models_in(field.annotation) if issubclass(below, Settings) and below is not RetrainSettings
        ]
        collection = re.match(r"(tuple|list|dict|Mapping)", str(field.annotation))
        if sections and not collection:
            found |= set().union(*(keys_below(section, f"{above}{name}.") for section in sections))
        else:
            found.add(above + name)
    return found


def test_every_setting_of_every_command_is_on_the_page() -> None:
    wanted = set().union(*map(keys_below, models())) - {"retraining"}  # the page says that it has the keys of a retraining
    assert len(wanted) > 200 and {"store.url", "promotion.floors.hr_at_10", "search.pruning.interval"} <= wanted
    assert [key for key in sorted(wanted) if f"`{key}`" not in page("settings")] == []


def test_every_key_of_the_files_of_a_server_and_of_the_worker_of_pods_is_on_the_page() -> None:
    for model in (RuleFile, ExperimentFile):
        waiting, seen = [model], {model}
        while waiting:
            current = waiting.pop()
            assert [name for name in current.model_fields if f"| `{name}` |" not in page("settings")] == []
            waiting += [
                below for field in current.model_fields.values() for below in models_in(field.annotation) if below not in seen
            ]
            seen |= set(waiting)
    assert [name for name in RunPodSettings.model_fields if f"`RECSYS_RUNPOD_{name.upper()}`" not in page("settings")] == []


def test_a_setting_has_its_bounds_unit_default_and_meaning() -> None:
    (line,) = [line for line in page("settings").splitlines() if "`data.timeout_s`" in line]
    assert "number, above 0 (seconds)" in line and "`30.0`" in line
    assert line.rstrip(" |").endswith("Seconds without a byte received after which a download is retried.")
    without = [line for line in page("settings").splitlines() if line.startswith("| <a id=") and line.endswith("|  |")]
    assert not without, "give each setting a docstring"


def test_no_type_of_a_setting_is_written_in_python() -> None:
    assert re.findall(r"(?:typing\.|<class|Annotated\[|NoneType|Union\[)[^|]*", page("settings")) == []


def test_every_command_with_its_options_is_on_the_page() -> None:
    names = commands.command_names()
    assert {"retrain", "data list", "model promote", "study search", "config show"} <= set(names)
    assert [name for name in names if f"## recsys {name}\n" not in page("commands")] == []
    assert [line for line in page("commands").splitlines() if line.startswith("| `--") and line.endswith("|  |")] == []
    assert "`--reason TEXT`" in page("commands") and "| `recsys model promote` |" in page("commands")


def test_every_route_and_body_is_on_the_page() -> None:
    described = http_api.document()
    routes = [f"## {method.upper()} {path}\n" for path, methods in described["paths"].items() for method in methods]
    bodies = [f"### {name}\n" for name in described["components"]["schemas"]]
    assert len(routes) >= 8 and [name for name in (*routes, *bodies) if name not in page("http-api")] == []
    for name in Problem.__dataclass_fields__:
        assert f"| `{name}` |" in page("http-api").split("### Problem\n")[1]


def test_every_metric_is_on_the_page_with_its_alerts() -> None:
    assert [name for name in metrics.metric_names() if f"`{name}`" not in page("metrics")] == []
    runbook = (ROOT / "docs" / "operations" / "runbook.md").read_text(encoding="utf-8")
    alerts = [rule["alert"] for rule in metrics.alert_rules()]
    assert [alert for alert in alerts if f"### {alert}\n" not in runbook] == [], "say in the runbook what to do"
    linked = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in metrics.alert_rules()}
    assert linked == {alert: f"docs/operations/runbook.md#{alert.lower()}" for alert in alerts}
    of_metrics = {rule["alert"] for rule in metrics.alert_rules() if "recsys_" in rule["expr"]}
    assert [alert for alert in of_metrics if f"[{alert}](" not in page("metrics")] == []


def test_every_message_of_prefect_leads_to_its_section_of_the_runbook() -> None:
    runbook = (ROOT / "docs" / "operations" / "runbook.md").read_text(encoding="utf-8")
    sections = {line.removeprefix("### ").lower().replace(" ", "-") for line in runbook.splitlines() if line.startswith("### ")}
    told = [
        (one.name, action.body)
        for one in wanted_automations(AlertSettings(runbook="https://host/runbook.html"), [UUID(int=0)], UUID(int=0))
        for action in one.actions
        if isinstance(action, SendNotification)
    ]
    assert len(told) >= 4
    for name, body in told:
        assert body.endswith(f"What to do: https://host/runbook.html#{section_of(name)}") and section_of(name) in sections


def test_every_error_that_a_person_can_mend_is_on_the_page() -> None:
    assert [name for name in errors.__all__ if name != "RecsysError" and f"| `{name}` |" not in page("errors")] == []
    assert "`urn:recsys:too-many-requests`" in page("errors")


def test_every_area_of_a_store_is_on_its_page() -> None:
    layout = (ROOT / "docs" / "reference" / "store.md").read_text(encoding="utf-8")
    assert [area for area in AREAS if f"`{area}" not in layout] == []


def test_documents_of_the_root_link_to_pages_of_the_site_and_to_no_file_beside_it() -> None:
    text = "[a](CHANGELOG.md#x) [b](docs/data-terms.md) [CI](.ci/run) ![p](docs/p.png) [w](https://example.org) [s](#here)"
    assert in_site(text) == "[a](changelog.md#x) [b](data-terms.md) `CI` ![p](docs/p.png) [w](https://example.org) [s](#here)"
    for source in FROM_ROOT:
        assert (ROOT / source).read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_links_of_the_root_lead_to_files(document: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", (ROOT / document).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_a_page_explains_the_first_use_of_a_term_and_leaves_code_and_links_alone() -> None:
    terms = terms_in("| term | meaning |\n|---|---|\n| **pod** | a `rented` machine |\n| **staged, sealed** | written |\n")
    assert terms == {"pod": "a rented machine", "staged": "written", "sealed": "written"}
    found = explained("<h2>Pod</h2><p>Pods, <code>pod</code> and a pod; <a href='#pod'>sealed</a> podium, sealed</p>", terms)
    assert found.count("<abbr") == 2 and '<abbr title="a rented machine">Pods</abbr>, <code>pod</code> and a pod;' in found
    assert "<a href='#pod'>sealed</a> podium, <abbr title=\"written\">sealed</abbr>" in found


def test_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180
