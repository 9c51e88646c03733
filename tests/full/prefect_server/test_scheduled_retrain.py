"""A retraining from its schedule to the message about its promotion, as in a production environment: PostgreSQL, S3, a Prefect
server and both workers as processes, a pod for the training, and a browser that follows every link.

`RECSYS_CHROMIUM` names the browser's program; `RECSYS_SHOTS` a folder for pictures of the pages.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Page, expect

from configs.settings import StoreSettings
from infra.local_stack.stack import Running, local_stack
from infra.prefect_server.pod_credentials import read_credentials
from infra.registry import ModelRegistry
from infra.storage import Store, open_store
from runpod_double.runpod_api import ACCOUNT_KEY, IMAGE, RunPodDouble
from tests import synthetic
from tests.doubles.live_prefect import ROOT, Webhook, recsys, wait_until, webhook
from tests.flows.conftest import QUICK

pytestmark = pytest.mark.full
PRICES = {"NVIDIA L40S": 0.86, "NVIDIA A100 80GB PCIe": 1.64}
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
MESSAGE = {"subject": "{{subject}}", "body": "{{body}}"}


@dataclass
class Site:
    """A running environment."""

    stack: Running
    runpod: RunPodDouble
    told: Webhook

    @property
    def auth(self) -> tuple[str, str]:
        user, _, password = (self.stack.layout.folder / "secrets" / "prefect_auth").read_text().partition(":")
        return user, password

    @property
    def environment(self) -> dict[str, str]:
        """The variables of an administrator's shell."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "AWS_", "RUNPOD"))}
        return kept | {
            "PREFECT_API_URL": f"{self.stack.url('prefect')}/api",
            "PREFECT_API_AUTH_STRING": ":".join(self.auth),
            "PREFECT_HOME": str(self.stack.layout.folder / "admin"),
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": str(ROOT),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.stack.layout.folder / "secrets" / "aws_worker"),
        }

    def store(self) -> Store:
        """Return the environment's store, with the rights of an administrator."""
        keys = read_credentials((self.stack.layout.folder / "secrets" / "aws_worker").read_text())
        given = {name.removeprefix("aws_"): value for name, value in keys.items()}
        place = {"url": "s3://recsys/production", "endpoint_url": self.stack.layout.s3_endpoint}
        return open_store(StoreSettings.model_validate({**place, **given}))

    def ask(self, method: str, path: str, **options: Any) -> Any:
        answer = httpx.request(method, f"{self.stack.url('prefect')}/api/{path}", auth=self.auth, timeout=90, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None


@pytest.fixture(scope="module")
def site(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="recsys-site-"))  # PostgreSQL, which runs as another user, can enter this folder
    (folder / "secrets").mkdir()
    (folder / "secrets" / "runpod_api_key").write_text(ACCOUNT_KEY)
    image = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with RunPodDouble(folder / "pods", image, prices=PRICES) as runpod, webhook() as told:
        monkeypatch_module.setenv("RUNPOD_API_BASE_URL", runpod.url)
        with local_stack(folder, ["worker", "worker-runpod"], s3=True, usual_ports=False, tell=lambda line: None) as stack:
            yield Site(stack, runpod, told)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def runs(site: Site) -> list[dict[str, Any]]:
    """Return two runs that the schedule has started, after they have ended. The schedule is then switched off, as in the UI."""
    make_block(site)
    set_up(site)
    deployment = site.ask("GET", "deployments/name/retrain/retrain")
    (schedule,) = deployment["schedules"]

    def begun() -> Any:
        wanted = {
            "deployments": {"id": {"any_": [deployment["id"]]}},
            "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}},
        }
        found = site.ask("POST", "flow_runs/filter", json={**wanted, "sort": "EXPECTED_START_TIME_ASC"})
        return found if len(found) >= 2 else None

    first, second = wait_until(begun, 1800, "the second run of the schedule")[:2]
    site.ask("PATCH", f"deployments/{deployment['id']}/schedules/{schedule['id']}", json={"active": False})

    def ended() -> Any:
        found = [site.ask("GET", f"flow_runs/{run['id']}") for run in (first, second)]
        return found if all(run["state_type"] in ENDED for run in found) else None

    found: list[dict[str, Any]] = wait_until(ended, 1800, "the end of both")
    assert [run["state_type"] for run in found] == ["COMPLETED"] * 2, [run["state"]["message"] for run in found]
    return found


def make_block(site: Site) -> None:
    """Create the block as a person does in the UI, under Blocks."""
    code = (
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block; "
        f"Block(name='ops', url={site.told.url!r}, json_data={MESSAGE!r}).save('ops')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=site.environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr


def set_up(site: Site) -> str:
    """Set up the environment that ships, with some changes: small data and models, a pod, and a run every minute."""
    folder = site.stack.layout.folder
    path = synthetic.write_csv(folder / "data", synthetic.interactions(80, 40, 25))
    overrides = {
        "retraining": {
            **QUICK,
            "monitoring": {},
            "data": {"local_path": str(path)},
            "training": {"where": "deployment", "poll_s": 1},
            "promotion": {**QUICK["promotion"], "approval": "automatic"},  # type: ignore[dict-item]
            "report": {"evidently": True},
        },
        "crons": {"retrain/retrain": "* * * * *"},
        "alerts": {"blocks": ["custom-webhook/ops"]},
        "pools": {"gpu_image": IMAGE},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(overrides))
    shipped = folder / "files" / "setup" / "production.yaml"
    done = recsys(["setup", "-c", str(shipped), "-c", str(folder / "site.yaml")], site.environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def visit(page: Page, site: Site, address: str) -> None:
    """Open a page as somebody who may have to sign in first."""
    page.goto(address)
    password, shell = page.locator("input[type=password]"), page.get_by_role("link", name="Dashboard", exact=True)
    expect(password.or_(shell).first).to_be_visible()
    if password.count():
        password.fill(":".join(site.auth))
        password.press("Enter")
        expect(shell.first).to_be_visible()


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("RECSYS_SHOTS"):
        page.wait_for_timeout(2500)  # for the picture only: the graph is drawn
        page.screenshot(path=f"{folder}/{name}.png")


def artifacts_of(site: Site, *runs: str) -> dict[str, dict[str, Any]]:
    """Return the artifacts of these runs by key."""
    wanted = {"artifacts": {"flow_run_id": {"any_": list(runs)}}, "sort": "CREATED_DESC", "limit": 200}
    return {found["key"]: found for found in site.ask("POST", "artifacts/filter", json=wanted) if found["key"]}


def parts_of(site: Site, run: dict[str, Any]) -> list[str]:
    """Return the ids of the run and of those that it has started."""
    wanted = {"flow_runs": {"parent_flow_run_id": {"any_": [run["id"]]}}}
    return [run["id"], *(each["id"] for each in site.ask("POST", "flow_runs/filter", json=wanted))]


def text_of(artifacts: dict[str, dict[str, Any]]) -> str:
    shown = [artifact for artifact in artifacts.values() if artifact["type"] != "image"]
    return "\n".join(f"{artifact['description']}\n{artifact['data']}" for artifact in shown)


def test_a_scheduled_retraining_trains_in_a_pod_and_is_promoted(site: Site, runs: list[dict[str, Any]]) -> None:
    first, second = runs
    assert first["auto_scheduled"] and second["auto_scheduled"] and "auto-scheduled" in first["tags"]
    assert first["name"].startswith("movie-ranker 20") and (first["state_name"], second["state_name"]) == ("Promoted", "Held")
    wait_until(lambda: not site.runpod.alive, 600, "the end of the pods")
    pods = list(site.runpod.pods.values())
    assert len(pods) == 2 and all(pod.starts == 1 for pod in pods) and not site.runpod.violations
    assert all(any("candidates handed over" in line.line for line in pod.lines) for pod in pods), "it did not train"
    assert site.runpod.count("DELETE", "/v2/pods/.*") >= 2

    store = site.store()
    registry = ModelRegistry(store)
    assert [entry.kind for entry in registry.history("movie-ranker")] == ["promote"], (
        "the second run was promoted, although it is not better"
    )
    (champion,) = [ref for ref in registry.versions("movie-ranker") if ref.outcome == "promoted"]
    assert registry.history("movie-ranker")[0].version == champion.version and len(registry.versions("movie-ranker")) == 2
    cost = registry.manifest("movie-ranker", champion.version)["lineage"]["cost"]
    assert f"pod {pods[0].id}" in artifacts_of(site, first["id"])["summary"]["data"]
    assert cost == pytest.approx(pods[0].usd, abs=pods[0].price * 30 / 3600) and cost > 0
    assert not list(store.list("handed-over/")), "handed-over candidates are left in the store"


def test_each_message_comes_once_with_figures_and_links_and_without_secrets(site: Site, runs: list[dict[str, Any]]) -> None:
    wait_until(lambda: len(decisions(site.told)) >= 2, 600, "both messages")
    (promoted,) = [message for message in site.told.messages if message["subject"].endswith(": promoted")]
    (held,) = [message for message in site.told.messages if message["subject"].endswith(": held")]
    first = ModelRegistry(site.store()).history("movie-ranker")[0].version
    assert promoted["subject"] == f"movie-ranker {first}: promoted"
    assert re.search(r"challenger: HR@10 0\.\d{4}, NDCG@10 0\.\d{4}", promoted["body"])
    assert "`recsys model rollback`" in promoted["body"] and f"Next: {first} stays champion" in held["body"]
    ui = f"{site.stack.url('prefect')}/v2/runs/flow-run"
    assert f"{ui}/{runs[0]['id']}" in promoted["body"] and f"{ui}/{runs[1]['id']}" in held["body"]
    shown = text_of(artifacts_of(site, *parts_of(site, runs[0]), *parts_of(site, runs[1])))
    logs = site.ask("POST", "logs/filter", json={"limit": 200}) + site.ask(
        "POST", "logs/filter", json={"limit": 200, "offset": 200}
    )
    deployments = site.ask("POST", "deployments/filter", json={}) + site.ask("POST", "block_documents/filter", json={})
    secrets = planted(site.stack.layout.folder / "secrets")
    assert len(secrets) >= 5
    for place, text in {
        "the messages": site.told.messages,
        "artifacts": shown,
        "logs": logs,
        "what the server shows": deployments,
    }.items():
        assert not [name for name, secret in secrets.items() if secret in json.dumps(text)], f"a secret is in {place}"


def planted(folder: Path) -> dict[str, str]:
    """Return what nobody may read: passwords, keys, and the pair that the server's clients send."""
    # api_keys holds digests, which everyone may see. Without keys it is "{}", which every page contains.
    texts = {path.name: path.read_text().strip() for path in folder.iterdir() if path.name != "api_keys"}
    found = {name: text for name, text in texts.items() if text and not name.startswith("aws_")}
    for name in texts.keys() - found.keys():
        found |= {f"{key} of {name}": value for key, value in (read_credentials(texts[name]) if texts[name] else {}).items()}
    return {**found, "basic auth": base64.b64encode(texts["prefect_auth"].encode()).decode()}


def decisions(told: Webhook) -> list[dict[str, Any]]:
    return [message for message in told.messages if message["subject"].startswith("movie-ranker ")]


def test_every_address_that_is_shown_leads_somewhere(site: Site, runs: list[dict[str, Any]], page: Page, tmp_path: Path) -> None:
    everything = artifacts_of(site, *parts_of(site, runs[0])) | artifacts_of(site, *parts_of(site, runs[1]))
    assert {"summary", "data", "drift", "metrics", "gate"} <= set(everything)
    told = "\n".join(message["body"] for message in decisions(site.told))
    own = [
        line["message"] for run in runs for line in site.ask("POST", "logs/filter", json=logs_of(run)) if "://" in line["message"]
    ]
    worker = site.stack.log("worker").read_text()
    text = "\n".join([text_of(everything), told, *own, worker])
    assert not re.search(r"\]\((?!https?://|data:image/png)", text), "there is a link that no browser follows"

    stored = set(re.findall(r"s3://[^\s`\"',)]+", text))
    assert len(stored) >= 5
    store = site.store()
    for address in stored:
        key = address.removeprefix(store.uri("").rstrip("/") + "/")
        assert store.exists(key) or key.startswith("handed-over/") or any(True for _ in store.list(f"{key}/")), address
    commands = set(re.findall(r"`recsys data open (\S+)`", text))
    assert len(commands) >= 3
    wanted = next(address for address in sorted(commands) if address.endswith("/report.html"))
    given = ["--set", f"store.endpoint_url={site.stack.layout.s3_endpoint}", "--to", str(tmp_path / "page.html")]
    done = recsys(["data", "open", wanted, *given], site.environment)
    assert done.returncode == 0 and "How well each model ranks" in (tmp_path / "page.html").read_text(), done.stderr

    pages = set(re.findall(r"https?://[^\s`\"',)]+", text))
    # All runs of the server: at seventeen minutes past the hour, the worker's log also names the run that looks for orphaned pods.
    names = {run["id"]: run["name"] for run in site.ask("POST", "flow_runs/filter", json={"limit": 200})}
    summaries = {address for address in pages if "/artifacts/artifact/" in address}
    known = {artifact["id"] for artifact in site.ask("POST", "artifacts/filter", json={"limit": 200})}
    assert summaries and {address.rsplit("/", 1)[1] for address in summaries} <= known, "an address that belongs to nothing known"
    pages -= summaries
    assert pages and {address.rsplit("/", 1)[1] for address in pages} <= set(names), "an address that is not the page of a run"
    for address in sorted(pages):
        visit(page, site, address)
        run = address.rsplit("/", 1)[1]
        expect(page.get_by_text(names[run], exact=True).first).to_be_visible()
        assert run in page.url and page.get_by_text("not found").count() == 0, address


def logs_of(run: dict[str, Any]) -> dict[str, Any]:
    return {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200}


def test_the_ui_shows_runs_artifacts_and_a_typed_form(site: Site, runs: list[dict[str, Any]], page: Page) -> None:
    visit(page, site, f"{site.stack.url('prefect')}/v2/runs")
    expect(page.get_by_role("link", name="movie-ranker 20").first).to_be_visible()
    shot(page, "runs")
    own = artifacts_of(site, runs[1]["id"])
    for key, said in (
        ("gate", "Next:"),
        ("summary", "recsys data open"),
        ("metrics", "NDCG@10"),
    ):
        visit(page, site, f"{site.stack.url('prefect')}/v2/artifacts/artifact/{own[key]['id']}")
        expect(page.get_by_text(said).first).to_be_visible()
        shot(page, f"artifact-{key}")
    visit(page, site, f"{site.stack.url('prefect')}/v2/runs/flow-run/{runs[1]['id']}")
    page.get_by_role("tab", name="Artifacts").click()
    expect(page.get_by_text("summary").first).to_be_visible()
    shot(page, "run")
    page.set_viewport_size({"width": 1000, "height": 720})
    visit(page, site, f"{site.stack.url('prefect')}/v2/deployments/deployment/{runs[1]['deployment_id']}/run")
    fields = page.locator("form label")
    expect(fields.filter(has_text="Model name")).to_be_visible()
    found = fields.all_text_contents()
    places = [
        next(place for place, text in enumerate(found) if text.startswith(title))
        for title in ("Preset", "Model name", "Data source", "Advanced")
    ]
    assert places == sorted(places) and len(found) <= 15, "the form is not a preset, a few fields, and one for all others"
    shot(page, "form")
