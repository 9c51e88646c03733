"""The live page with the real HTTP interface, and what it says without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from fastapi.testclient import TestClient
from pydantic import SecretStr

from configs.serving import DemoSettings, ServingSettings
from infra.registry import ModelRegistry
from serving.api.app import create_app
from serving.demo import ServerLink
from serving.demo.remote import ServerError
from serving.demo.views import live
from serving.experiments import Exposure
from tests.serving.demo.test_pages import html, page
from tests.serving.live import experiment
from tests.tasks.world import World


@pytest.fixture(scope="module")
def client(lively: tuple[World, DemoSettings]) -> Iterator[TestClient]:
    _, settings = lively
    serving = ServingSettings.model_validate(
        {
            "model_name": settings.model_name,
            "store": settings.store,
            "work_dir": settings.work_dir,
            "log_requests": False,
            "limits": {"api_keys": ["k3y-of-the-live-demo"]},
        }
    )
    with TestClient(create_app(serving)) as client:
        client.headers["X-API-Key"] = "k3y-of-the-live-demo"
        yield client


@pytest.fixture
def served(settings: DemoSettings, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> DemoSettings:
    monkeypatch.setattr(live, "ServerLink", lambda settings: ServerLink(settings, client))
    return settings.model_copy(update={"api_url": "http://testserver"})


@pytest.mark.full
def test_the_list_follows_what_was_watched(served: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("live", served, monkeypatch)
    assert app.metric[0].value == "nothing known yet" and app.metric[1].value == "0"
    cold = html(app)
    watched = next(button for button in app.button if str(button.key).startswith("list "))
    movie = int(str(watched.key).removeprefix("list "))
    watched.click().run()
    assert not app.exception and app.metric[1].value == "1"
    assert "applied" in app.success[0].value
    assert html(app) != cold
    assert not [button for button in app.button if str(button.key) == f"list {movie}"]  # a film that was seen is not shown again
    assert app.get("vega_lite_chart")
    app.text_input(key="live search").set_value("film").run()
    assert [button for button in app.button if str(button.key).startswith("found ")]
    app.select_slider(key="live gap").set_value("1 year").run()
    app.slider(key="live k").set_value(5).run()
    assert len([button for button in app.button if str(button.key).startswith("list ")]) == 5 and not app.exception


def test_looking_at_the_page_shows_the_arm_and_enters_no_experiment(
    lively: tuple[World, DemoSettings], settings: DemoSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world, _ = lively
    first, second = (each.version for each in ModelRegistry(world.store).history(settings.model_name))
    made = experiment(arms=[{"name": "control", "version": first}, {"name": "new", "version": second}])
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"experiments": [made.model_dump(mode="json")]}))
    written: list[Exposure] = []
    sink = SimpleNamespace(dropped=0, write=written.append, close=lambda: None)
    serving = ServingSettings.model_validate(
        {
            "model_name": settings.model_name,
            "store": settings.store,
            "work_dir": settings.work_dir,
            "log_requests": False,
            "experiments": tmp_path / "experiments.yaml",
        }
    )
    with TestClient(create_app(serving, sink)) as client:
        monkeypatch.setattr(live, "ServerLink", lambda settings: ServerLink(settings, client))
        app = page("live", settings.model_copy(update={"api_url": "http://testserver"}), monkeypatch)
        caption = next(each.value for each in app.caption if "experiment" in each.value)
        app.text_input(key="live user").set_value("1").run()
        assert not app.exception and written == []
        client.post("/v1/recommendations", json={"user_id": 9_000_000})
    assert "of the experiment longer" in caption and "not counted" in caption
    assert [each.arm for each in written] == [caption.split("arm ")[1].split()[0]]


def test_without_a_server_the_page_says_how_to_start_one(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "recsys serve" in page("live", settings, monkeypatch).error[0].value
    nobody = settings.model_copy(update={"api_url": "http://127.0.0.1:9"})
    assert "does not answer" in page("live", nobody, monkeypatch).error[0].value


def test_the_page_says_that_the_server_has_no_champion(
    settings: DemoSettings, empty: DemoSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    serving = ServingSettings.model_validate({"store": empty.store, "work_dir": tmp_path, "log_requests": False})
    with TestClient(create_app(serving)) as client:
        monkeypatch.setattr(live, "ServerLink", lambda settings: ServerLink(settings, client))
        app = page("live", settings.model_copy(update={"api_url": "http://testserver"}), monkeypatch)
    assert "no champion yet" in app.info[0].value


def test_the_servers_own_error_message_is_passed_on(served: DemoSettings, client: TestClient) -> None:
    link = ServerLink(served, client)
    with pytest.raises(ServerError, match=r"refused the request: .*at most 500"):
        link.recommend(1, 100_000)
    strange = httpx.Client(base_url="http://x", transport=httpx.MockTransport(lambda request: httpx.Response(200, text="<html>")))
    with pytest.raises(ServerError, match="is it `recsys serve`"):
        ServerLink(served, strange).models()


def test_the_key_is_sent(settings: DemoSettings) -> None:
    keyed = settings.model_copy(update={"api_url": "http://x", "api_key": SecretStr("k3y-of-the-live-demo")})
    assert ServerLink(keyed)._client.headers["X-API-Key"] == "k3y-of-the-live-demo"
