"""`examples/train_ss4rec.py` trains without Prefect, from another working folder, and prints what it found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import synthetic
from tests.examples import EXAMPLES, ROOT

SCRIPT = EXAMPLES / "train_ss4rec.py"


@pytest.mark.full
def test_the_script_prints_its_epochs_and_the_ndcg_with_the_protocol(tmp_path: Path) -> None:
    synthetic.interactions(40, 30, 15).to_csv(tmp_path / "events.csv", index=False)
    program = "import runpy, sys; sys.modules['prefect'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(SCRIPT), "events.csv", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    epoch, found = done.stdout.splitlines()
    assert re.fullmatch(r"epoch 1: loss \d\.\d{3}, valid NDCG@10 0\.\d{4}, .* s", epoch)
    assert re.fullmatch(r"loo-exact\S*: test NDCG@10 0\.\d{4} on 40 requests", found)


def test_the_examples_are_short() -> None:
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES.rglob("*.py")}
    assert lines["train_ss4rec.py"] <= 60 and lines["sasrec_model.py"] <= 100
