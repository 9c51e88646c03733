"""The files in infra/ for production fit together: compose, proxy, monitoring, images and policies."""

from __future__ import annotations

import http.client
import json
import re
import select
import shutil
import socket
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.serving.world import wait_for
from configs.base import Settings
from infra.local_stack.services import COMPOSE, ROOT, Layout, localised, read_services
from infra.prefect_server import EnvironmentSettings
from serving.api.responses import Problem
from serving.metrics import Metrics
from tests.ports import reserved_port

INFRA = ROOT / "infra"
CONTENT: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
DOCKERFILES = sorted((INFRA / "docker").glob("*.Dockerfile"))
AREAS = (
    "datasets/", "landing/", "histories/", "models/", "promotions/", "decisions/", "audits/", "drift/", "due/", "runs/", "leases/",
    "handed-over/", "searches/", "comparisons/", "exposures/", "outcomes/", "erasures/", "rollouts/",
)  # fmt: skip
"""The areas of a store (docs/reference/store.md)."""
API_LISTS = {*AREAS} - {"datasets/", "landing/", "leases/", "handed-over/", "searches/", "exposures/", "outcomes/"}


def test_every_service_has_limits_a_health_check_and_no_privileges() -> None:
    for name, service in SERVICES.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= set(limits), f"{name} may take the whole host"
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] in ("unless-stopped", "on-failure"), name
        image = service["image"]
        assert "@sha256:" in image if "build" not in service else not image.endswith(":latest"), f"{name} is not pinned"
        assert service["read_only"] and service["pids_limit"] and any(each.startswith("/tmp") for each in service["tmpfs"]), name
        assert "build" in service or service["init"], f"{name}: nothing collects the processes that end"  # ours contain tini
        in_image = target_of(service) in ("api", "demo")  # its Dockerfile has the check
        seen = in_image or name in ("setup", "backup")  # the alert BackupOld tells that backups stopped
        assert "healthcheck" in service or seen, f"nobody sees {name} hang"
        for port in service.get("ports", ()):
            assert name == "proxy" or port.startswith("127.0.0.1:"), f"{name} listens to the world"


def test_every_service_of_ours_may_write_to_its_home() -> None:
    for name, service in SERVICES.items():
        if "build" in service and name != "exporter":  # it only reads the worker's folder
            places = [volume.split(":", 1)[1] for volume in service.get("volumes", ())]
            places += [place.split(":")[0] for place in service["tmpfs"]]
            assert "/var/lib/recsys" in places, f"{name} has a read-only root, and its home is there"
            for place in service["tmpfs"]:
                assert place.startswith("/tmp") or "uid=10001,gid=10001" in place, (
                    f"with some versions of runc, {name} may not write to it"
                )


def test_runs_in_production_write_only_to_the_workers_volume() -> None:
    """They run in /app, which is read-only in the image, so a folder relative to it cannot be written."""
    settings = EnvironmentSettings.model_validate(yaml.safe_load((ROOT / "configs" / "production.yaml").read_text()))
    given, folders = settings.retraining, []
    for section in (given, *(getattr(given, name) for name in type(given).model_fields)):
        folders += [value for _, value in section if isinstance(value, Path)] if isinstance(section, Settings) else []
    assert len(folders) >= 3
    assert all(folder.is_relative_to("/var/lib/recsys") for folder in folders), folders


def target_of(service: dict[str, Any]) -> str:
    """Return the target of the service's Dockerfile, where no variable chooses another."""
    return re.sub(r"\$\{\w+:-(.*)\}", r"\1", service.get("build", {}).get("target", ""))


def test_everything_that_compose_names_exists() -> None:
    for name, service in SERVICES.items():
        for secret in service.get("secrets", ()):
            assert secret in CONTENT["secrets"], f"{name}: {secret}"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (INFRA / source).exists() if source.startswith(".") else source in CONTENT["volumes"], f"{name}: {volume}"
        for other in service.get("depends_on", ()):
            assert other in SERVICES
        if "build" in service:
            stages = re.findall(r"(?m)^FROM .* AS (\S+)$", (ROOT / service["build"]["dockerfile"]).read_text())
            assert target_of(service) in stages
        for key, value in service.get("environment", {}).items():
            if str(value).startswith("/run/secrets/"):
                assert key.endswith(("_FILE", "__FILE")) and str(value).rsplit("/", 1)[1] in service["secrets"], f"{name}: {key}"
            assert not re.search(r"(?i)(password|secret|token|api_key|auth_string)$", key), f"{name}: {key} is a secret in clear"


def test_secrets_are_random_and_are_made_only_once(tmp_path: Path) -> None:
    script = INFRA / "compose" / "make-secrets"
    subprocess.run(["sh", str(script), str(tmp_path / "one")], check=True)
    subprocess.run(["sh", str(script), str(tmp_path / "two")], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "one").iterdir()}
    assert set(made) == {Path(secret["file"]).name for secret in CONTENT["secrets"].values()}
    assert (
        made["postgres_password"] != (tmp_path / "two" / "postgres_password").read_text() and len(made["postgres_password"]) == 48
    )
    assert made["prefect_auth"] == f"recsys:{made['prefect_password']}"
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700
    subprocess.run(["sh", str(script), str(tmp_path / "one")], check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "one").iterdir()} == made


def test_a_command_gets_the_secret_from_a_file_and_not_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret with $dollar and 'quote'\n")
    (tmp_path / "empty").write_text("")
    environment = {
        "PATH": "/usr/bin:/bin",
        "RUNPOD_API_KEY_FILE": str(tmp_path / "key"),
        "WANDB_API_KEY_FILE": str(tmp_path / "empty"),
        "AWS_SHARED_CREDENTIALS_FILE": "/kept",
    }
    command = [str(INFRA / "docker" / "with-secrets"), "env"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found["RUNPOD_API_KEY"] == "s3cret with $dollar and 'quote'" and "RUNPOD_API_KEY_FILE" not in found
    assert "WANDB_API_KEY" not in found and found["AWS_SHARED_CREDENTIALS_FILE"] == "/kept"
    missing = subprocess.run(command, env={**environment, "RUNPOD_API_KEY_FILE": "/no/such"}, capture_output=True, check=False)
    assert missing.returncode != 0


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_pinned_has_stages_and_no_root(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    stages = re.findall(r"(?m)^FROM (\S+)(?: AS (\S+))?$", text)
    names = {name for _, name in stages}
    assert len(stages) >= 2
    for image, _ in stages:
        argument = re.search(r"\$\{(\w+)\}", image)
        tag = re.search(rf"(?m)^ARG {argument[1]}=(\S+)$", text)[1] if argument else image  # type: ignore[index]
        own = image == "scratch" or tag.startswith("recsys-")  # built from this folder, so it has no digest to pin
        assert image in names or own or "@sha256:" in tag, f"{image} is not pinned"
    if path.stem == "kernels":
        return  # it is never run: its wheels are copied
    assert "/usr/bin/tini" in text and "HOME=/var/lib/recsys" in text, (
        "nothing collects processes that end, or the home is read-only"
    )
    last = text[text.rindex("\nFROM") :]
    assert "USER 10001:10001" in (last if "FROM api-base" not in last else text) or path.stem == "kernels"
    assert not re.search(r"(?i)(password|secret|token|api_key)=", text.replace("with-secrets", ""))
    for copied in re.findall(r"(?m)^COPY (?!--from)(\S+) ", text):
        assert copied == "." or (ROOT / copied).exists()


def test_the_worker_dumps_with_the_pg_dump_of_the_server_that_compose_starts() -> None:
    """A pg_dump refuses a server that is newer than itself."""
    text = (INFRA / "docker" / "worker.Dockerfile").read_text()
    assert f"\nARG POSTGRES={SERVICES['postgres']['image']}\n" in text
    assert re.search(r"(?m)^COPY --from=postgres \S+/pg_dump \S+/pg_restore ", text)
    assert re.search(r"apt-get install[^&]* gpg=[^&]* redis-tools=", text), "backups need redis-cli and GnuPG"


@pytest.mark.parametrize("name", ["serve", "demo", "worker"])
def test_an_image_has_the_versions_that_the_tests_have(name: str) -> None:
    own, tested = (set((ROOT / "requirements" / f"{each}.txt").read_text().splitlines()) for each in (name, "dev"))
    assert {line for line in own if "==" in line} <= tested


def test_the_image_of_the_api_has_no_torch_and_that_of_the_worker_has_the_extras_of_the_commands() -> None:
    serve, worker = (
        set(re.findall(r"(?m)^([a-z0-9.-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text()))
        for name in ("serve", "worker")
    )
    assert not {"torch", "scipy", "pandas", "prefect", "recbole", "evidently"} & serve
    assert {"psycopg", "wandb", "dask", "prefect-dask", "prometheus-client", "uvicorn"} <= worker


def expressions() -> list[str]:
    """Return the expressions of the alert rules and of every panel."""
    found = [
        rule["expr"] for group in yaml.safe_load((INFRA / "compose/rules.yaml").read_text())["groups"] for rule in group["rules"]
    ]
    for path in (INFRA / "compose/grafana/dashboards").glob("*.json"):
        board = json.loads(path.read_text())
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        found += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        found += [each["expr"] for each in board.get("annotations", {}).get("list", ()) if "expr" in each]
    return found


def exporter_metrics() -> dict[str, set[str]]:
    """Return the labels of each metric of the exporter, as its source names them."""
    source = "".join((INFRA / "exporter" / f"{name}.py").read_text() for name in ("facts", "page"))
    named = re.findall(r'Sample\("(\w+)"(.*)', source)
    return {name: set(re.findall(r'\(\("(\w+)", ', rest)) for name, rest in named}


def test_panels_and_alerts_ask_for_metrics_and_labels_that_the_api_has() -> None:
    own = {metric._name: set(metric._labelnames) for metric in vars(Metrics()).values() if hasattr(metric, "_labelnames")}
    own |= exporter_metrics()
    asked = set()
    for expression in expressions():
        by = {label for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.split(r",\s*", labels)}
        for name, selector in re.findall(r"(recsys_[a-z_]+)(?:\{([^}]*)\})?", expression):
            base = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert base in own, f"{expression}: the API has no {name}"
            selected = set(re.findall(r"(\w+)\s*[=!]", selector))
            assert selected | by <= own[base] | {"le", "instance", "job"}, f"{expression}: {name} has the labels {own[base]}"
            asked.add(base)
    assert len(asked) > 10


def test_panels_about_the_process_ask_for_metrics_that_the_api_has() -> None:
    served = set(re.findall(r"(?m)^(process_\w+) ", Metrics().render().decode()))
    asked = {name for expression in expressions() for name in re.findall(r"\bprocess_\w+", expression)}
    assert asked and asked <= served


def test_every_target_that_prometheus_scrapes_is_served() -> None:
    config = yaml.safe_load((INFRA / "compose/prometheus.yaml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for job in jobs.values():
        for target in (target for each in job["static_configs"] for target in each["targets"]):
            host, port = target.split(":")
            service = SERVICES[host] if host != "127.0.0.1" else SERVICES["prometheus"]
            open_ports = {int(each) for each in service.get("expose", ())} | {service.get("x-local", {}).get("port")}
            assert host == "127.0.0.1" or int(port) in open_ports, target
            assert set(service["networks"]) & set(SERVICES["prometheus"]["networks"]), f"{target} cannot be reached"
    assert jobs["prefect"]["metrics_path"] == "/api/metrics"
    assert SERVICES["prefect"]["environment"]["PREFECT_SERVER_METRICS_ENABLED"] == "true", "the server has no such page"
    for rule in (rule for rule in expressions() if "job=" in rule):
        assert set(re.findall(r'job="(\w+)"', rule)) <= set(jobs), rule


def test_browsers_find_the_servers_ui_and_its_api_at_one_address_whatever_it_is(tmp_path: Path) -> None:
    prefect = {service.name: service for service in read_services(variables={"RECSYS_UI_URL": "https://runs.example.org"})}[
        "prefect"
    ]
    assert prefect.environment["PREFECT_UI_URL"] == "https://runs.example.org/v2"
    assert prefect.environment["PREFECT_SERVER_UI_API_URL"] == "https://runs.example.org/api"
    services = {service.name: service for service in read_services(variables={})}
    ports = {name: 20_000 + number for number, name in enumerate(SERVICES)}
    layout = Layout(tmp_path, ports, f"file:{tmp_path}/store", None, {"prefect": 4200})
    for name in ("prefect", "worker", "worker-runpod"):
        found = localised(services[name], layout).environment
        assert found["PREFECT_UI_URL"] == f"http://127.0.0.1:{ports['prefect']}/v2", f"what {name} writes leads nowhere"


def test_local_services_keep_addresses_that_merely_contain_0_0_0_0(tmp_path: Path) -> None:
    layout = Layout(tmp_path, {name: 20_000 + number for number, name in enumerate(SERVICES)}, f"file:{tmp_path}/store", None)
    api = next(service for service in read_services() if service.name.startswith("api"))
    command = localised(api, layout).command
    assert any("[10.0.0.0/8, " in argument for argument in command) and "host=127.0.0.1" in command


def test_pods_get_no_address_that_only_compose_knows() -> None:
    for variables, given in (
        ({}, ""),
        ({"RECSYS_PUBLIC_API_URL": "https://runs.example.org/api"}, "https://runs.example.org/api"),
    ):
        worker = {service.name: service for service in read_services(variables=variables)}["worker-runpod"]
        assert worker.environment["RECSYS_RUNPOD_SERVER_URL"] == given
        assert worker.environment["PREFECT_API_URL"] == "http://prefect:4200/api", "the worker's own address"
    for dockerfile, service in (("train", None), ("worker", "worker")):
        text = (INFRA / "docker" / f"{dockerfile}.Dockerfile").read_text()
        assert "RECSYS_COMMIT=${COMMIT}" in text, f"{service or 'a pod'} does not know its commit"


def test_nginx_accepts_the_proxys_configuration(tmp_path: Path) -> None:
    assert shutil.which("nginx"), "apt-get install -y --no-install-recommends nginx"
    ports = {name: 20_000 + number for number, name in enumerate(SERVICES)}
    proxy = next(service for service in read_services() if service.name == "proxy")
    found = localised(proxy, Layout(tmp_path, ports, f"file:{tmp_path}/store", None))
    (tmp_path / "var" / "proxy").mkdir(parents=True)
    config = found.command[found.command.index("-c") + 1]
    done = subprocess.run(["nginx", "-t", "-c", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = Path(config).read_text()
    assert f"127.0.0.1:{ports['api-1']}" in Path(config).with_name("upstream-fixed.conf").read_text()
    assert f"listen 127.0.0.1:{ports['proxy']};" in text


def test_nginx_refuses_requests_in_the_form_of_the_api_and_does_not_pass_on_a_forged_address(tmp_path: Path) -> None:
    assert shutil.which("nginx"), "apt-get install -y --no-install-recommends nginx"
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = {"api-1": listening[0].getsockname()[1], "api-2": listening[1].getsockname()[1], "proxy": reserved_port()}
    for each in listening:
        each.settimeout(120)
    proxy = next(service for service in read_services() if service.name == "proxy")
    layout = Layout(tmp_path, {name: ports.get(name, 20_000) for name in SERVICES}, f"file:{tmp_path}/store", None)
    (tmp_path / "var" / "proxy").mkdir(parents=True)
    running = subprocess.Popen(localised(proxy, layout).command)
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", ports["proxy"]), 5).close(), running)
        too_large = {413: {"Content-Length": "3000000"}, 431: {"X-Long": "a" * 9000}}
        for status, headers in too_large.items():
            connection = http.client.HTTPConnection("127.0.0.1", ports["proxy"], timeout=120)
            connection.request("POST", "/v1/events", headers=headers)
            response = connection.getresponse()
            assert response.status == status and response.headers["content-type"] == "application/problem+json"
            found = json.loads(response.read())
            assert found["status"] == status and set(found) == {field.name for field in fields(Problem)}
        client = socket.create_connection(("127.0.0.1", ports["proxy"]), 120)
        client.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n")
        passed_on = b""
        for each in select.select(listening, [], [], 120)[0]:
            passed_on = each.accept()[0].recv(4096)
        assert b"X-Forwarded-For: 127.0.0.1\r\n" in passed_on
        client.close()
    finally:
        running.terminate()
        running.wait()
        for each in listening:
            each.close()


def test_services_find_each_other_on_this_machine(tmp_path: Path) -> None:
    ports = {name: 20_000 + number for number, name in enumerate(SERVICES)}
    here = {
        service.name: localised(service, Layout(tmp_path, ports, "s3://recsys/production", "http://s3:1"))
        for service in read_services()
    }
    assert list(here).index("setup") > list(here).index("prefect") > list(here).index("postgres")
    prefect = here["prefect"].environment
    assert (prefect["PREFECT_SERVER_DATABASE_HOST"], prefect["PREFECT_SERVER_DATABASE_PORT"]) == (
        "127.0.0.1",
        str(ports["postgres"]),
    )
    assert here["worker"].environment["PREFECT_API_URL"] == f"http://127.0.0.1:{ports['prefect']}/api"
    assert here["worker"].environment["PREFECT_WORKER_WEBSERVER_PORT"] == str(ports["worker"])
    api = here["api-2"].command
    assert api[api.index("--port") + 1] == str(ports["api-2"]) and f"redis://127.0.0.1:{ports['redis']}/0" in api
    assert api[api.index("store.url=s3://recsys/production") + 1 :][:2] == ["--set", "store.endpoint_url=http://s3:1"]
    environment = yaml.safe_load((tmp_path / "files" / "setup" / "production.yaml").read_text())
    assert environment["code"] == str(ROOT) and environment["retraining"]["store"]["endpoint_url"] == "http://s3:1"
    assert Path(environment["retraining"]["work_dir"]).relative_to(tmp_path).parts == ("var", "work", "work")
    assert not [
        text for service in here.values() for text in (*service.command, *service.environment.values()) if "/run/" in text
    ]
