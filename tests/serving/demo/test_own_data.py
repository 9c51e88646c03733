"""The pages of a shop: text ids, no titles, genres, years or ratings, and the team's words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from configs.serving import DemoSettings
from infra.digests import sha256_of
from infra.storage.local import LocalStore
from models.histories import write_histories
from serving.api.app import create_app
from serving.demo import ServerLink
from serving.demo.views import live
from tests.serving.demo.test_pages import html, page
from tests.serving.own_data import draw_shop, named, shop_split
from tests.serving.versions import NAME, promote_version, publish, settings_of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a version of the shop, whose dataset is stored in parts, and the histories of its users."""
    root = tmp_path_factory.mktemp("shop")
    store = LocalStore(root / "store")
    draw_shop(root / "v1", 1)
    promote_version(store, publish(store, root / "v1").version)
    store.put_new("datasets/small/abc/manifest.json", b'{"format": 2}')
    train = shop_split().train
    users = np.repeat(train.user_ids, train.lengths)
    texts = {number: text for text in map(named, range(1, 61)) for number in [_number(text)]}
    write_histories(
        root / "h", users, train.item_ids, train.timestamps, most=1000, texts=[texts[int(user)] for user in train.user_ids]
    )
    store.put_new(f"histories/small/00000001-abc-{sha256_of(root / 'h')}", root / "h")
    return root


def _number(text: str) -> int:
    from models.identity import number_of

    return number_of(text)


@pytest.fixture
def settings(root: Path) -> DemoSettings:
    given = {"model_name": NAME, "store": {"url": f"file:{root}/store"}, "work_dir": root / "work", "refresh_s": 0}
    return DemoSettings.model_validate(given)


def test_a_user_is_chosen_by_the_teams_id_and_items_are_shown_by_theirs(
    settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page("recommend", settings, monkeypatch)
    assert app.text_input(key="user").label == "Id of the user" and "müller@" in app.text_input(key="user").value
    shown = html(app)
    assert shown.count('<div class="item') == 10 and ">SKU/" in shown and "brand: Acme" in shown and "film" not in shown.lower()
    assert 'data-name="product"' in shown and 'data-name="rating"' not in shown and "lower without it" in shown
    app.text_input(key="user").set_value(named(7)).run()
    assert html(app) != shown and not app.exception
    app.text_input(key="user").set_value("nobody").run()
    assert "has no user nobody" in app.info[0].value and "new user" in app.info[0].value and "lifted by" not in html(app)
    app.multiselect(key="attribute brand").select("Birk").run()
    cards = html(app).split('<div class="item')[1:]
    assert cards and all("brand: Birk" in card for card in cards)
    app.slider(key="attribute price").set_value((110.0, 120.0)).run()
    assert not app.exception


def test_a_history_is_built_from_products(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("recommend", settings, monkeypatch)
    app.segmented_control(key="how").set_value("Build a history").run()
    assert any("well-known products" in caption.value for caption in app.caption)
    app.text_input(key="search").set_value("sku/0105").run()
    (found,) = [button for button in app.button if button.label.startswith("\\+ ")]
    found.click().run()
    assert "close to" in html(app) and not app.exception


def test_the_live_page_takes_text_ids_and_the_teams_words(
    root: Path, settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(settings_of(root))) as client:
        monkeypatch.setattr(live, "ServerLink", lambda settings: ServerLink(settings, client))
        app = page("live", settings.model_copy(update={"api_url": "http://testserver"}), monkeypatch)
        assert any("Choose a product" in caption.value for caption in app.caption)
        app.text_input(key="live user").set_value("müller/7?x=#1").run()
        assert not app.exception
        next(button for button in app.button if str(button.key).startswith("list ")).click().run()
        assert app.metric[1].value == "1" and "applied" in app.success[0].value
        assert client.get("/v1/users/m%C3%BCller%2F7%3Fx%3D%231/events").json()["count"] == 1
        app.text_input(key="live user").set_value(named(7)).run()
        assert int(app.metric[1].value) > 1, "the user of the dataset is known"


def test_two_versions_of_the_shop_are_compared(root: Path, settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page("compare", settings, monkeypatch)
    assert html(app).count('<div class="item') == 20
    assert any("10 of the first 10 products are in both" in caption.value for caption in app.caption)
