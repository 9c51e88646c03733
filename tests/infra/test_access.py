"""Who may do what: an outsider, clients with keys, a pod, a server and a curious worker. The tables are those of the documentation."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from infra.local_stack.services import COMPOSE, ROOT
from serving.access import clients
from serving.api.app import create_app
from tests.infra.aws.test_policies import may, may_list, read_policy
from tests.infra.test_production_files import AREAS
from tests.serving.access.test_keys import entry, settings_of, write

PAGE = ROOT / "docs" / "operations" / "access.md"
CONTENT: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
OUTSIDER = "outsider"
HOLDERS: dict[str, tuple[str, ...]] = {
    "shop that reads": ("read",),
    "shop that reports": ("events",),
    "demo": ("read", "events"),
    "operator": ("admin",),
}
BROWSED = [("GET", path) for path in ("/docs", "/docs/{name}", "/pages", "/openapi.json")]  # not in the OpenAPI document
ROLES = {"server": "api", "pod": "trainer", "worker": "worker", "demo": "demo", "exporter": "exporter", "backup": "backup"}
ACTIONS = {"read": "s3:GetObject", "write": "s3:PutObject", "delete": "s3:DeleteObject"}
IN_CLEAR = re.compile(r"(?i)(password|passwd|secret|token|api_?key|auth_string|credentials)")


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def key_of_the(holder: str) -> str:
    return f"key-of-the-{holder.replace(' ', '-')}"


def documented(made: str) -> None:
    assert made in PAGE.read_text(), f"{PAGE} must have:\n{made}"


def test_each_client_reaches_its_own_routes_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "WRONG_KEYS_AT_ONCE", 1000)
    file = write(tmp_path / "keys.yaml", *[entry(key_of_the(name), *scopes) for name, scopes in HOLDERS.items()])
    app = create_app(settings_of(tmp_path, host="0.0.0.0", access={"keys": str(file)}))
    listed = [(method.upper(), path) for path, each in app.openapi()["paths"].items() for method in each]
    rows = []
    with TestClient(app) as client:
        for method, path in sorted({*listed, *BROWSED}, key=lambda route: (route[1], route[0])):
            asked = re.sub(r"\{\w+\}", "1", path.replace(":path", ""))

            def reaches(key: str | None, method: str = method, asked: str = asked) -> bool:
                headers = {} if key is None else {"X-API-Key": key}
                body: dict[str, Any] | None = {} if method == "POST" else None
                return client.request(method, asked, headers=headers, json=body).status_code not in (401, 403)

            assert reaches("a guess") == reaches(None), path
            marks = ["yes" if reaches(None if name == OUTSIDER else key_of_the(name)) else "" for name in (OUTSIDER, *HOLDERS)]
            rows.append([f"`{method} {path}`", *marks])
    documented(table(["route", OUTSIDER, *HOLDERS], rows))


def test_each_role_reaches_its_own_areas_of_the_store_and_no_other() -> None:
    rows = []
    for area in AREAS:
        cells = []
        for policy in (read_policy(role) for role in ROLES.values()):
            may_do = ["list"] if may_list(policy, f"production/{area}") else []
            for what, action in ACTIONS.items():
                if may(policy, action, f"{area}a/b/c"):
                    may_do.append(what)
                elif any(fnmatch(place, f"*:recsys/production/{area}*") for place in places(policy, action)):
                    may_do.append(f"{what} some")
            cells.append(", ".join(may_do))
        rows.append([f"`{area}`", *cells])
    documented(table(["area", *ROLES], rows))


def places(policy: dict[str, Any], action: str) -> list[str]:
    return [place for each in policy["Statement"] if action in each["Action"] for place in each["Resource"]]


def test_each_service_gets_the_secrets_that_it_needs_as_files_and_no_other() -> None:
    rows = []
    for name, service in CONTENT["services"].items():
        own = set(service.get("secrets", ()))
        words = [str(each) for key in ("command", "entrypoint") for each in service.get(key, ())]
        settings = {key: str(value) for key, value in service.get("environment", {}).items()}
        used = set(re.findall(r"/run/secrets/(\w+)", json.dumps(service)))
        assert used <= own, f"{name} names a secret that it does not get"
        for text in (*words, *(f"{key}={value}" for key, value in settings.items())):
            assert not IN_CLEAR.search(text) or "/run/secrets/" in text, f"{name}: {text} has a secret in clear"
        rows.append([name, ", ".join(f"`{secret}`" for secret in sorted(own))])
    documented(table(["service", "secrets"], rows))


def test_no_secret_gets_into_a_layer_of_an_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*" and ignored.index("infra/compose/secrets") > ignored.index("!infra")
    assert ignored.index("infra/kubernetes/*/secrets") > ignored.index("!infra")
    for path in sorted((ROOT / "infra" / "docker").glob("*.Dockerfile")):
        lines = re.sub(r"\\\n", " ", path.read_text()).splitlines()
        steps = [line for line in lines if line.split(" ")[0] in ("ARG", "ENV", "COPY", "ADD", "RUN", "LABEL")]
        assert steps and not [line for line in steps if IN_CLEAR.search(line)], path
