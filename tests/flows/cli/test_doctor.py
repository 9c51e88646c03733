from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from configs.serving import RedisSettings
from configs.settings import StoreSettings
from flows.cli import doctor
from flows.cli.doctor import Finding, examine
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tests.doubles.redis_server import redis_server
from tests.tasks.stored import NAME, NOW, sealed


def found_in(store: StoreSettings, redis: str | None = None, model_name: str = NAME) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(store, model_name, RedisSettings(url=redis))}


@pytest.fixture(autouse=True)
def no_server() -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: None}):
        yield


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the checks time: a busy machine takes seconds to import what they need."""
    monkeypatch.setattr(doctor, "DEADLINE_S", 300.0)


@pytest.fixture
def silent() -> Iterator[int]:
    """Yield a port that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_the_store_is_shown_with_its_champion(tmp_path: Path) -> None:
    settings = StoreSettings(url=f"file:{tmp_path}/store")
    assert found_in(settings)["store"] == Finding("store", "ok", f"{settings.url}: {NAME} has no champion yet")
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "m")
    ModelRegistry(store).promote(NAME, ref.version, expected=0, reason="first", now=NOW)
    assert f"{ref.version} is champion of {NAME}" in found_in(settings)["store"].said


def test_a_store_that_cannot_be_written_or_reached_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)  # root may write everywhere
    found = found_in(StoreSettings(url=f"file:{tmp_path}/store"))["store"]
    assert found.status == "broken" and f"{tmp_path} is not writable" in found.said
    far = StoreSettings.model_validate(
        {"url": "s3://b/p", "endpoint_url": "http://127.0.0.1:9", "access_key_id": "a", "secret_access_key": "planted"}
    )
    found = found_in(far)["store"]
    assert found.status == "broken" and "does not answer" in found.said and "planted" not in found.said


def test_a_service_that_is_not_set_up_is_absent_and_not_broken(tmp_path: Path) -> None:
    found = found_in(StoreSettings(url=f"file:{tmp_path}/store"))
    assert found["Prefect"].status == found["Redis"].status == "absent"
    assert found["versions"].status == "ok" and "prefect 3." in found["versions"].said


class _Prefect(BaseHTTPRequestHandler):
    version = "3.8.8"
    release: str | None = None

    def do_GET(self) -> None:
        if self.release is not None and self.path.endswith("/variables/name/recsys_environment"):
            value = {"environment": "production", "store": "s3://films/production", "release": self.release}
            variable = {"id": str(uuid4()), "name": "recsys_environment", "value": value, "tags": []}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(variable).encode())
            return
        known = 200 if self.path.endswith("/version") else 404
        self.send_response(known if self.headers.get("Authorization") else 401)
        self.end_headers()
        self.wfile.write(f'"{self.version}"'.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def test_the_version_of_a_prefect_server_is_shown_and_missing_credentials_are_reported(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Prefect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/api"
    store = StoreSettings(url=f"file:{tmp_path}/store")
    with temporary_settings({PREFECT_API_URL: address}):
        refused = found_in(store)["Prefect"]
        assert refused.status == "broken" and "PREFECT_API_AUTH_STRING" in refused.said
    with temporary_settings({PREFECT_API_URL: address, PREFECT_API_AUTH_STRING: "admin:planted"}):
        found = found_in(store)["Prefect"]
        assert (found.status, found.said) == ("ok", f"{address}: version 3.8.8")
        server.shutdown()
        server.server_close()
        gone = found_in(store)["Prefect"]
        assert gone.status == "broken" and "planted" not in gone.said


@pytest.mark.parametrize(
    ("server_has", "status", "said"),
    [
        ("3.8.7", "broken", "older than this machine's 3.8.8. Update the server first"),
        ("3.10.0", "ok", "newer than this machine's"),
    ],
)
def test_a_prefect_server_of_another_release_than_this_machine_is_told(
    server_has: str, status: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Prefect, "version", server_has)
    monkeypatch.setattr(doctor, "version", lambda package: "3.8.8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Prefect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/api"
    with temporary_settings({PREFECT_API_URL: address, PREFECT_API_AUTH_STRING: "admin:planted"}):
        found = found_in(StoreSettings(url=f"file:{tmp_path}/store"))["Prefect"]
    server.shutdown()
    server.server_close()
    assert found.status == status and f"version {server_has}, {said}" in found.said


@pytest.mark.parametrize(
    ("set_up_by", "status", "said"),
    [
        ("0.2.0", "broken", "set up by recsys 0.2.0, and this machine has 0.1.0. Update this machine"),
        ("0.0.9", "broken", "set up by recsys 0.0.9, and this machine has 0.1.0. Run `recsys setup`"),
        ("0.1.0", "ok", "version 3.8.8"),
    ],
)
def test_a_machine_of_another_release_than_the_one_that_set_the_server_up_is_told(
    set_up_by: str, status: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Prefect, "release", set_up_by)
    monkeypatch.setattr(doctor, "version", lambda package: "0.1.0" if package == "movielens-recsys" else "3.8.8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Prefect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with temporary_settings(
        {PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api", PREFECT_API_AUTH_STRING: "me:planted"}
    ):
        found = found_in(StoreSettings(url=f"file:{tmp_path}/store"))["Prefect"]
    server.shutdown()
    server.server_close()
    assert found.status == status and said in found.said


def test_a_champion_that_a_newer_release_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "model")
    ModelRegistry(store).promote(ref.name, ref.version, expected=0, reason="better", now=NOW)
    monkeypatch.setattr(doctor, "version", lambda package: "0.0.9")
    found = found_in(StoreSettings(url=f"file:{tmp_path}/store"), model_name=ref.name)["store"]
    assert found.status == "broken" and "newer than this machine's 0.0.9. Update this machine" in found.said


def test_the_version_of_redis_is_shown_and_a_redis_that_is_gone_is_reported(tmp_path: Path) -> None:
    store = StoreSettings(url=f"file:{tmp_path}/store")
    with redis_server() as server:
        found = found_in(store, server.url)["Redis"]
        assert found.status == "ok" and ": version " in found.said
    gone = found_in(store, server.url.replace("redis://", "redis://:planted@"))["Redis"]
    assert gone.status == "broken" and "planted" not in gone.said


class Clock:
    """Stands still until every check but the slow ones has an answer. Then more time has passed than the doctor waits."""

    def __init__(self, slow: set[str]) -> None:
        self.slow, self.begun = {f"doctor {name}" for name in slow}, False
        self.earlier = set(threading.enumerate())

    def monotonic(self) -> float:
        checks = [each for each in threading.enumerate() if each.name.startswith("doctor ") and each not in self.earlier]
        waiting = {each.name for each in checks}
        over = self.begun and waiting <= self.slow
        self.begun = True
        return 4.1 if over else 0.0


def examined(slow: set[str], store: StoreSettings, redis: str | None = None) -> dict[str, Finding]:
    """Return what the doctor says while some checks have no answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "time", Clock(slow))
        patch.setattr(doctor, "DEADLINE_S", 4.0)
        return found_in(store, redis)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda program: None)


def test_a_service_that_does_not_answer_is_slow_and_the_other_checks_get_their_verdict(
    tmp_path: Path, silent: int, no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = StoreSettings(url=f"file:{tmp_path}/store")
    far = StoreSettings.model_validate(
        {"url": "s3://b/p", "endpoint_url": f"http://127.0.0.1:{silent}", "access_key_id": "a", "secret_access_key": "b"}
    )
    usual = {"versions": "ok", "store": "ok", "Prefect": "absent", "Redis": "absent", "GPU": "absent"}

    def expect(found: dict[str, Finding], slow: str, named: str) -> None:
        assert {name: each.status for name, each in found.items()} == {**usual, slow: "slow"}
        assert found[slow].said.startswith("there was no answer in 4.1 s.") and named in found[slow].said

    expect(examined({"store"}, far), "store", "check store.url")
    expect(examined({"Redis"}, local, f"redis://127.0.0.1:{silent}/0"), "Redis", "check redis.url")
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{silent}/api"}):
        expect(examined({"Prefect"}, local), "Prefect", "check PREFECT_API_URL")
    hangs = threading.Event()
    monkeypatch.setattr(doctor, "_version", lambda package: hangs.wait() and "")
    expect(examined({"versions"}, local), "versions", "when the machine is less busy")
    hangs.set()


def test_a_check_that_is_still_under_way_does_not_abort_the_command(tmp_path: Path) -> None:
    program = (
        "import atexit, sys, time; from flows.cli import doctor, main\n"
        "atexit.register(print, 'cleaned up')\n"
        "doctor.DEADLINE_S = 0.1; doctor._gpu = lambda: time.sleep(600)\n"
        f"sys.argv = ['recsys', 'doctor', '--set', 'store.url=file:{tmp_path}/store']; main.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "SLOW    GPU: there was no answer" in done.stdout, done.stderr
    assert "cleaned up" not in done.stdout, "the thread of the check is stopped by force while C++ code may run in it"


def test_a_driver_that_does_not_answer_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: str(program))
    monkeypatch.setattr(doctor, "GPU_S", 0.2)
    found = doctor._gpu()
    assert (found.status, found.said.split(". ")[0]) == ("slow", "there was no answer in 0.2 s")


def test_what_is_wrong_is_broken_and_not_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("no program")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: str(tmp_path / "nvidia-smi"))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        found = found_in(StoreSettings(url=f"file:{tmp_path}/store"), "redis://127.0.0.1:9/0")
    assert {name for name, each in found.items() if each.status == "broken"} == {"Prefect", "Redis", "GPU"}
