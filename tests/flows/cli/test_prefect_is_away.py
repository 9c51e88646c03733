"""Every command that needs a Prefect server says so in one paragraph, and every other command needs none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli import doctor
from flows.cli.old_names import OLD_NAMES
from tests.flows.cli.test_main import ALL, recsys
from tests.infra.prefect_server.test_connection import answering

NEEDS_IT = {
    "retrain": "",
    "etl": "",
    "monitor": "",
    "data compact": "",
    "data retry": "--landing {folder}/landing",
    "model train": "",
    "model export": "--to {folder}/out",
    "model promote": "VERSION",
    "study search": "",
    "study compare": "",
    "study replay": "",
    "gpu list": "",
    "gpu reap": "",
    "setup": "",
    "doctor": "",
}
NEEDS_NONE = {
    "data list": "",
    "data files": "",
    "data prune": "",
    "data remove": "--user 1 --reason none",
    "data erase": "--user 1 --reason none",
    "data open": "file:{folder}/none",
    "data histories": "",
    "model list": "",
    "model show": "champion",
    "model check": "none:SPEC",
    "init": "{folder}/none.csv",
    "model rollback": "",
    "model log": "",
    "model audit": "champion",
    "model prune": "",
    "experiment list": "--experiments {folder}/none.yaml",
    "experiment assign": "1 --experiments {folder}/none.yaml",
    "study adopt": "none volume --set store.url=file:{folder}/none",
    "experiment estimate": "name --experiments {folder}/none.yaml --outcomes {folder}/none.csv",
    "key list": "--keys {folder}/keys",
    "key add": "shop --keys {folder}/keys",
    "key remove": "shop --keys {folder}/keys",
    "experiment report": "name --experiments {folder}/none.yaml --outcomes {folder}/none.csv",
    "config show": "",
    "prune": "",
    "freeze": "--reason none",
    "thaw": "",
    "rollout status": "",
    "rollout watch": "",
    "rollout advance": "",
    "rollout abort": "",
}
RUN_UNTIL_STOPPED = {"serve", "demo"}


def test_every_command_is_known_here() -> None:
    leaves = {" ".join(path) for path, command in ALL.items() if path and not hasattr(command, "commands")}
    assert leaves - set(OLD_NAMES) == {*NEEDS_IT, *NEEDS_NONE, *RUN_UNTIL_STOPPED}


@pytest.fixture(scope="module")
def away() -> Iterator[str]:
    """Yield the address of a server that is not Prefect's. It answers faster than a port at which nobody listens."""
    with answering(404, "none") as address:
        yield address


def called(address: str, command: str, arguments: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(doctor, "DEADLINE_S", 300.0)  # a busy machine takes seconds to import what the checks need
    store = (
        []
        if command.startswith(("gpu", "experiment list", "experiment assign", "init", "model check"))
        else ["--set", f"store.url=file:{folder}/store"]
    )
    if command == "setup":
        store = []
    with temporary_settings({PREFECT_API_URL: address}):
        return recsys(*command.split(), *arguments.format(folder=folder).split(), *store)


@pytest.mark.parametrize("command", NEEDS_IT)
def test_a_missing_server_is_reported_before_any_work(
    away: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert called(away, command, NEEDS_IT[command], tmp_path, monkeypatch) == 1
    out, err = capfd.readouterr()
    said = out if command == "doctor" else err
    assert f"{away} is not the API of a Prefect server" in said and "Traceback" not in out + err
    assert command == "doctor" or (out == "" and err.strip().count("\n") == 0), "it is not one paragraph"
    assert list(tmp_path.iterdir()) == [], "something was begun"


@pytest.mark.parametrize("command", NEEDS_NONE)
def test_commands_that_only_use_the_store_need_no_server(
    away: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    called(away, command, NEEDS_NONE[command], tmp_path, monkeypatch)
    out, err = capfd.readouterr()
    assert "Prefect" not in out + err and "Traceback" not in out + err
