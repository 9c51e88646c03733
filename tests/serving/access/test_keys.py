"""API keys: what each scope opens, rotation while the server runs, and a server that nobody guards does not start."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient
from typer.testing import CliRunner

from configs.errors import SettingsError
from configs.serving import ServingSettings
from flows.cli.main import app
from serving.access import clients, refuse_open
from serving.api.app import create_app

SECRETS = {"reader": ("read",), "reporter": ("events",), "boss": ("admin",)}


def settings_of(root: Path, **options: Any) -> ServingSettings:
    base: dict[str, Any] = {
        "store": {"url": f"file:{root}/store"},
        "work_dir": str(root / "served"),
        "outcomes": {"folder": str(root / "outcomes")},
        "log_requests": False,
    }
    return ServingSettings.model_validate(base | options)


def entry(key: str, *scopes: str, **more: Any) -> dict[str, Any]:
    return {"name": more.pop("name", key), "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": list(scopes), **more}


def write(path: Path, *keys: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"keys": list(keys)}))
    return path


def status(client: TestClient, method: str, path: str, key: str | None) -> int:
    body = {} if path == "/v1/recommendations" else {"events": [], "outcomes": []}
    headers = {} if key is None else {"X-API-Key": key}
    return client.request(method, path, headers=headers, json=body if method == "POST" else None).status_code


def test_each_scope_opens_its_routes_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "WRONG_KEYS_AT_ONCE", 1000)
    file = write(tmp_path / "keys.yaml", *[entry(name, *scopes) for name, scopes in SECRETS.items()])
    settings = settings_of(tmp_path, host="0.0.0.0", access={"keys": str(file)})
    routes = {
        "read": [("GET", "/v1/models"), ("POST", "/v1/recommendations"), ("GET", "/v1/users/1/events"), ("GET", "/v1/onboarding")],
        "events": [("POST", "/v1/events"), ("POST", "/v1/outcomes")],
        "admin": [("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/pages/"), ("GET", "/metrics"), ("DELETE", "/v1/users/1")],
    }  # fmt: skip
    with TestClient(create_app(settings)) as client:
        for scope, listed in routes.items():
            for method, path in listed:
                for name, scopes in SECRETS.items():
                    refused = status(client, method, path, name) in (401, 403)
                    assert refused != (scope in scopes or "admin" in scopes), (method, path, name)
                assert status(client, method, path, None) == status(client, method, path, "nobody") == 401, path
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code in (200, 503)
        refused = client.get("/metrics", headers={"X-API-Key": "reader"})
        assert refused.status_code == 403 and "lacks the scope admin" in refused.json()["detail"]
        assert client.get("/metrics", auth=("", "boss")).status_code == 200  # as Prometheus sends it


def test_keys_are_exchanged_while_the_server_runs(tmp_path: Path) -> None:
    file = write(tmp_path / "keys.yaml", entry("former-key", "read", name="shop"))
    app_ = create_app(settings_of(tmp_path, host="0.0.0.0", access={"keys": str(file)}))
    worker = app_.state.worker

    def reload(*keys: dict[str, Any]) -> None:
        write(file, *keys)
        worker.keys.look()
        worker.keys.look()

    with TestClient(app_) as client:
        assert status(client, "GET", "/v1/models", "former-key") == 200
        reload(entry("former-key", "read", name="shop"), entry("new-key", "read", name="shop"))
        assert [status(client, "GET", "/v1/models", key) for key in ("former-key", "new-key")] == [200, 200]
        reload(entry("new-key", "read", name="shop"))
        assert [status(client, "GET", "/v1/models", key) for key in ("former-key", "new-key")] == [401, 200]
        file.write_text("keys: [{name: shop}]")  # a fault keeps the keys that are valid
        worker.keys.look()
        worker.keys.look()
        assert worker.keys.fault is not None and status(client, "GET", "/v1/models", "new-key") == 200
        file.write_text("{}")  # without any key, nobody may ask where others reach the server
        worker.keys.look()
        worker.keys.look()
        assert status(client, "GET", "/v1/models", "new-key") == status(client, "GET", "/v1/models", None) == 401


def test_a_key_ends_and_has_a_rate_of_its_own(tmp_path: Path) -> None:
    past, future = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    file = write(
        tmp_path / "keys.yaml",
        entry("ended", "read", until=past.isoformat()),
        entry("valid", "read", until=future.isoformat(), rate_per_s=0.001),
    )
    limits = {"burst": 3}
    with TestClient(create_app(settings_of(tmp_path, access={"keys": str(file)}, limits=limits))) as client:
        assert status(client, "GET", "/v1/models", "ended") == 401
        assert [status(client, "GET", "/v1/models", "valid") for _ in range(4)] == [200, 200, 200, 429]
        assert client.get("/metrics").status_code == 200  # this machine only


@pytest.mark.parametrize(
    ("options", "open_to_all"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "10.0.0.5"}, True),
        ({"host": "0.0.0.0", "access": {"published_at": "127.0.0.1"}}, False),
        ({"host": "127.0.0.1", "access": {"published_at": "0.0.0.0"}}, True),
    ],
)
def test_a_server_that_others_reach_does_not_start_without_a_key(
    options: dict[str, Any], open_to_all: bool, tmp_path: Path
) -> None:
    settings = ServingSettings.model_validate(options)
    if not open_to_all:
        refuse_open(settings)
        return
    with pytest.raises(SettingsError, match=r"would answer everybody.*recsys key add"):
        refuse_open(settings)
    access = options.get("access", {}) | {"keys": str(write(tmp_path / "keys.yaml", entry("k" * 20, "read")))}
    refuse_open(ServingSettings.model_validate(options | {"access": access}))
    refuse_open(ServingSettings.model_validate(options | {"limits": {"api_keys": ["k" * 20]}}))


def test_pages_of_other_origins_may_ask_only_if_they_are_listed(tmp_path: Path) -> None:
    ask = {"Origin": "https://shop.example.org", "Access-Control-Request-Method": "POST"}
    with TestClient(create_app(settings_of(tmp_path))) as client:
        refused = client.options("/v1/recommendations", headers=ask)
        assert refused.status_code == 405 and "access-control-allow-origin" not in refused.headers
    access = {"cors_origins": ["https://shop.example.org"]}
    with TestClient(create_app(settings_of(tmp_path, access=access, limits={"api_keys": ["k" * 20]}))) as client:
        allowed = client.options("/v1/recommendations", headers=ask)
        assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == "https://shop.example.org"
        assert "access-control-allow-origin" not in client.options("/", headers=ask | {"Origin": "https://evil.example"}).headers


def test_a_key_is_made_listed_and_removed_and_shown_only_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["key", *arguments, "--keys", str(file)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    key = run("add", "shop", "--rate", "50").split()[-1]
    run("add", "shop", "--scope", "admin")
    content = file.read_text()
    assert len(key) >= 32 and key not in content and hashlib.sha256(key.encode()).hexdigest() in content
    assert file.stat().st_mode & 0o777 == 0o600
    listed = run("list")
    assert listed.count("shop") == 2 and "read, events" in listed and key not in listed
    run("remove", "shop", "--sha256", hashlib.sha256(key.encode()).hexdigest()[:8])
    assert hashlib.sha256(key.encode()).hexdigest() not in file.read_text() and run("list").count("shop") == 1
    with pytest.raises(SettingsError, match="has no such key of 'other'"):
        run("remove", "other")
    with pytest.raises(SettingsError, match="scopes"):
        run("add", "shop", "--scope", "root")
    run("remove", "shop")
    assert "shop" not in file.read_text()
