"""Take the pictures of docs/pictures again, from the product as it is: `python -m website.pictures`.

Starts a Prefect server with a worker, lets the deployment `retrain` train on MovieLens 100K, and photographs its page, the form of a
run and the demo in Chromium. `--only replay` also plays a replay, which takes many minutes. Everything else is in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

__all__ = ["PICTURES", "main"]

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
CHROMIUM = os.environ.get("RECSYS_CHROMIUM", "/usr/bin/chromium")
USUAL = ("prefect-run", "prefect-form", "demo")
PICTURES = (*USUAL, "replay")
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PATIENCE_S = 1800
PREFECT_PORT, DEMO_PORT = 4299, 8599


class PictureError(Exception):
    """A picture cannot be taken. The message says why."""


def main() -> None:
    """Take the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(USUAL))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the retraining")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="recsys-pictures-") as name, sync_playwright() as playwright:
        folder = Path(name)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, device_scale_factor=1)
        page.set_default_timeout(PATIENCE_S * 1000)
        try:
            if wanted := [name for name in USUAL if name in given.only]:
                _of_a_run(folder, page, wanted, given.set)
            if "replay" in given.only:
                _of_a_replay(folder, page)
        except PictureError as error:
            sys.exit(str(error))
        finally:
            browser.close()


def _of_a_run(folder: Path, page: Page, wanted: list[str], settings: list[str]) -> None:
    """Photograph a run of the deployment `retrain`, its form, and the demo of what it promoted."""
    environment = _environment(folder)
    places = [f"store.url=file:{folder}/store", f"work_dir={folder}/work"]
    prefect = [str(Path(sys.executable).with_name("prefect"))]
    server = f"http://127.0.0.1:{PREFECT_PORT}"
    starting = [*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(PREFECT_PORT)]
    with _process(starting, environment, folder / "server.log"):
        _wait(lambda: httpx.get(f"{server}/api/health").is_success, "The Prefect server")
        _recsys(["setup", *(part for one in (*places, *settings) for part in ("--set", f"retraining.{one}"))], environment)
        deployment = httpx.get(f"{server}/api/deployments/name/retrain/retrain").json()["id"]
        if "prefect-form" in wanted:
            page.goto(f"{server}/v2/deployments/deployment/{deployment}/run")
            page.get_by_role("button", name="Submit").wait_for()
            _photograph(page, "prefect-form")
        if wanted == ["prefect-form"]:
            return
        with _process([*prefect, "worker", "start", "--pool", "recsys"], environment, folder / "worker.log"):
            answer = httpx.post(f"{server}/api/deployments/{deployment}/create_flow_run", json={"state": {"type": "SCHEDULED"}})
            run = answer.raise_for_status().json()["id"]

            def state() -> dict[str, Any]:
                found: dict[str, Any] = httpx.get(f"{server}/api/flow_runs/{run}").json()
                return found

            _wait(lambda: state().get("state_type") in ENDED, "The retraining")
            if (found := state())["state_type"] != "COMPLETED":
                raise PictureError(f"The retraining did not complete: {found['state']['message']}")
        if "prefect-run" in wanted:
            page.goto(f"{server}/v2/runs/flow-run/{run}")
            page.get_by_text(found["name"]).first.wait_for()
            page.get_by_role("tab", name="Artifacts").click()
            page.wait_for_timeout(8000)  # the graph of tasks draws itself after its data have come
            _photograph(page, "prefect-run")
    if "demo" in wanted:
        command = ["demo", "--port", str(DEMO_PORT), *(part for one in places for part in ("--set", one))]
        with _process([sys.executable, "-m", "flows.cli", *command], environment, folder / "demo.log"):
            address = f"http://127.0.0.1:{DEMO_PORT}"
            _wait(lambda: httpx.get(f"{address}/_stcore/health").is_success, "The demo")
            page.goto(address)
            page.locator("[data-testid=stApp][data-test-script-state=notRunning] .item").first.wait_for()
            _photograph(page, "demo")


def _of_a_replay(folder: Path, page: Page) -> None:
    """Photograph the page of a replay."""
    served = ("PREFECT_API_URL", "PREFECT_UI_URL")  # there is no server here: a replay needs none
    environment = {name: value for name, value in _environment(folder).items() if name not in served}
    out = folder / "replay.json"
    places = ["--set", f"store.url=file:{folder}/replay", "--set", f"work_dir={folder}/work"]
    _recsys(["study", "replay", "--set", "slices=month", "--set", "base_slices=2", *places, "--json", str(out)], environment)
    found = sorted((folder / "work").rglob("report.html")) + sorted((folder / "replay").rglob("report.html"))
    if not found:
        raise PictureError(f"The replay has no page: {json.loads(out.read_text(encoding='utf-8')).keys()}")
    page.goto(found[-1].as_uri())
    _photograph(page, "replay")


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of the product: all that it writes is in the folder."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "RECSYS__", "AWS_"))}
    address = f"http://127.0.0.1:{PREFECT_PORT}"
    return own | {
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_UI_URL": f"{address}/v2",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def _recsys(arguments: list[str], environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    done = subprocess.run(command, env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PictureError(f"`recsys {' '.join(arguments)}` failed:\n{done.stderr[-2000:]}")


@contextmanager
def _process(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run a process, and end it and all that it started with the block."""
    with log.open("wb") as file:
        started = subprocess.Popen(command, env=dict(environment), cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
    try:
        yield
    finally:
        started.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            started.wait(timeout=60)
        with suppress(ProcessLookupError):  # what it started and did not end, and itself if it does not obey
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def _wait(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(1)
    raise PictureError(f"{what} did not answer in {PATIENCE_S} s.")


def _photograph(page: Page, name: str) -> None:
    page.wait_for_timeout(3000)  # graphs and pictures fade in
    FOLDER.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(FOLDER / f"{name}.png"))
    print(f"{FOLDER.relative_to(ROOT)}/{name}.png", flush=True)


if __name__ == "__main__":
    main()
