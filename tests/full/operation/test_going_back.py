"""A release is taken back: the earlier one works again on a store that the later one has written to.

The earlier release runs from the history of this repository.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import own_events
from tests.doubles.live_prefect import migrated_database

pytestmark = pytest.mark.nightly
ROOT = Path(__file__).parents[3]
EARLIER = "33e471f1"
SMALL = {
    "RECSYS__TRACKING__MODE": "off",
    "RECSYS__REPORT__EVIDENTLY": "false",
    "RECSYS__MONITORING__EVIDENTLY": "false",
    "RECSYS__MODELS__SS4REC__WIDTH": "16",
    "RECSYS__MODELS__SS4REC__BLOCKS": "1",
    "RECSYS__MODELS__SS4REC__MAX_EPOCHS": "2",
    "RECSYS__MODELS__NCF__MAX_EPOCHS": "1",
    "RECSYS__PROMOTION__BASELINES": "[]",
    "RECSYS__PROMOTION__FLOORS__HR_AT_10": "0",
    "RECSYS__PROMOTION__FLOORS__NDCG_AT_10": "0",
}


@dataclass
class Release:
    """The commands of a release, over one store."""

    code: Path
    folder: Path

    def recsys(self, *arguments: str) -> str:
        """Run a command, and return what it printed."""
        environment = os.environ | SMALL | {"PYTHONPATH": str(self.code), "PREFECT_HOME": str(self.folder / "prefect")}
        command = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def retrain(self, seed: int) -> dict[str, Any]:
        """Train and judge a version, and return the summary of the run."""
        self.recsys("retrain", "-c", "shop.yaml", "--set", f"seed={seed}", "--json", "summary.json")
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        return summary

    def champion(self) -> str:
        """Return the champion as the release sees it, in its short form."""
        return self.recsys("model", "list", "-c", "shop.yaml").rsplit("champion of movie-ranker: ", 1)[1].strip()


def short(summary: dict[str, Any]) -> str:
    """Return the short form of the champion after a run."""
    return str(summary["champion"]).partition("-")[0]


@pytest.fixture
def earlier(tmp_path: Path) -> Release:
    """Provide the release before this one, in a folder with a team's events."""
    code, folder = tmp_path / "earlier", tmp_path / "shop"
    archive = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the history does not reach back to {EARLIER}: git fetch --unshallow")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(code, filter="data")
    migrated_database(folder / "prefect" / "prefect.db")
    own_events.write(own_events.SHAPES["shop"](), folder / "shop")
    release = Release(code, folder)
    release.recsys("init", "shop")
    return release


def test_the_earlier_release_goes_on_with_its_own_champion_after_a_rollback(earlier: Release) -> None:
    present = Release(ROOT, earlier.folder)
    first = earlier.retrain(1)
    assert first["promoted"]
    present.retrain(2)
    present.recsys("model", "promote", "latest", "-c", "shop.yaml", "--force", "--reason", "the release is new")
    second = present.champion()
    assert second != short(first)
    assert earlier.champion() == second, "the earlier release does not read the log"
    present.recsys("model", "rollback", "-c", "shop.yaml", "--reason", "the release is taken back")
    assert earlier.champion() == short(first) == present.champion()
    again = earlier.retrain(3)
    assert again["decision"]["champion"] == first["champion"] and again["decision"]["metrics"]["champion"]
