"""A container of an image has the rights, limits, volumes and secrets that compose gives to its service, and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.images import running
from infra.images.running import Container, Unpacked, bytes_of, run_command
from infra.local_stack.containers import Containers
from infra.local_stack.services import Layout, localised, read_services

SAYS = {
    "Entrypoint": ["/usr/bin/tini", "--"],
    "Cmd": ["recsys", "--help"],
    "Env": ["PATH=/opt/venv/bin:/usr/bin", "HOME=/var/lib/recsys"],
    "User": "10001:10001",
    "WorkingDir": "/var/lib/recsys",
    "Healthcheck": {"Test": ["CMD", "python", "-c", "pass"]},
}
PORTS = {service.name: 20_000 + number for number, service in enumerate(read_services(variables={}))}


@pytest.fixture(autouse=True)
def nobody_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may give folders to another user."""
    monkeypatch.setattr(running.os, "chown", lambda *_: None)


def image(tmp_path: Path) -> Unpacked:
    return Unpacked("localhost/recsys-worker:latest", tmp_path / "root", SAYS)


def described(image: Unpacked, container: Container, folder: Path) -> dict[str, Any]:
    with run_command(image, container, folder, "a-container") as command:
        assert command == ["runc", "run", "--bundle", str(folder), "a-container"]
        found: dict[str, Any] = json.loads((folder / "config.json").read_text())
        return found


def test_a_container_has_a_read_only_root_its_own_user_and_no_capabilities(tmp_path: Path) -> None:
    container = Container(environment={"NAME": "a=b"}, memory=2**30, processes=512, cpus=0.5)
    found = described(image(tmp_path), container, tmp_path / "bundle")
    assert found["root"]["readonly"] and found["process"]["noNewPrivileges"] and found["process"]["capabilities"] == {}
    assert found["process"]["user"] == {"uid": 10001, "gid": 10001}
    assert found["process"]["args"] == ["/usr/bin/tini", "--", "recsys", "--help"], "the image's own entry point"
    assert "NAME=a=b" in found["process"]["env"] and "HOME=/var/lib/recsys" in found["process"]["env"]
    limits = found["linux"]["resources"]
    assert limits == {"memory": {"limit": 2**30}, "pids": {"limit": 512}, "cpu": {"period": 100_000, "quota": 50_000}}
    writable = {mount["destination"] for mount in found["mounts"] if "ro" not in mount.get("options", ["ro"])}
    assert writable == {"/dev", "/dev/shm", "/tmp"}
    assert image(tmp_path).health == ["python", "-c", "pass"]


def test_without_limits_a_container_has_none(tmp_path: Path) -> None:
    assert described(image(tmp_path), Container(["true"]), tmp_path / "bundle")["linux"]["resources"] == {}


@pytest.mark.parametrize(("text", "size"), [("512m", 512 * 2**20), ("1g", 2**30), ("1.5GB", 1.5 * 2**30), ("100", 100)])
def test_sizes_are_read_as_compose_writes_them(text: str, size: float) -> None:
    assert bytes_of(text) == size


def test_a_service_in_its_image_keeps_composes_paths_and_gets_its_own_secrets_and_volumes(tmp_path: Path) -> None:
    layout = Layout(tmp_path, PORTS, "s3://recsys/production", "http://127.0.0.1:1", images=True)
    found = {}
    with Containers.opened() as containers:
        for service in [each for each in read_services(variables={}) if each.own]:
            given = localised(service, layout)
            containers._images[f"localhost/{given.entry['image']}"] = image(tmp_path)
            command = containers.command(given, layout)
            found[service.name] = json.loads((Path(command[3]) / "config.json").read_text())
            secrets = {mount["destination"] for mount in found[service.name]["mounts"] if "/run/secrets/" in mount["destination"]}
            assert secrets == {f"/run/secrets/{name}" for name in service.entry.get("secrets", ())}, service.name
    assert {"prefect", "setup", "worker", "api-1", "demo", "exporter", "backup"} <= set(found)
    api = found["api-1"]
    assert "work_dir=/var/lib/recsys/serving" in api["process"]["args"] and str(tmp_path) not in str(api["process"])
    assert f"redis://127.0.0.1:{PORTS['redis']}/0" in api["process"]["args"]
    (volume,) = [mount for mount in api["mounts"] if mount["destination"] == "/var/lib/recsys"]
    assert volume["source"] == f"{tmp_path}/var/api-1" and "rw" in volume["options"]
    (shared,) = [mount for mount in found["exporter"]["mounts"] if mount["destination"] == "/var/lib/recsys"]
    assert shared["source"] == f"{tmp_path}/var/work" and "ro" in shared["options"]
    (settings,) = [mount for mount in found["setup"]["mounts"] if mount["destination"].startswith("/app/")]
    assert settings["destination"] == "/app/configs/production.yaml" and "code: /app" in Path(settings["source"]).read_text()
    backup = dict(each.split("=", 1) for each in found["backup"]["process"]["env"])
    assert (backup["PGHOST"], backup["PGPORT"], backup["AWS_ENDPOINT_URL"]) == (
        "127.0.0.1",
        str(PORTS["postgres"]),
        "http://127.0.0.1:1",
    )


def test_a_volume_exists_even_if_the_first_service_that_starts_only_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(running.os, "chown", lambda place, user, group: given.update({Path(place).name: (user, group)}))
    layout = Layout(tmp_path, PORTS, "s3://recsys/production", "http://127.0.0.1:1", images=True)
    (exporter,) = [each for each in read_services(variables={}) if each.name == "exporter"]
    with Containers.opened() as containers:
        containers._images[f"localhost/{exporter.entry['image']}"] = image(tmp_path)
        containers.command(localised(exporter, layout), layout)
    assert (tmp_path / "var" / "work").is_dir() and given == {"work": (10001, 10001)}, "the worker could not write to it later"
