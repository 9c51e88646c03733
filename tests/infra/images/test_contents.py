"""An image is told apart from one that was built from other code."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.images.contents import other_code


@pytest.fixture
def app(tmp_path: Path) -> Path:
    for place in ("app", "checkout"):
        package = tmp_path / place / "serving"
        package.mkdir(parents=True)
        (package / "api.py").write_text("ANSWER = 1\n")
    return tmp_path / "app"


def test_a_checkout_may_have_more_files_than_its_image(app: Path) -> None:
    (app.parent / "checkout" / "tests.py").touch()
    assert other_code(app, app.parent / "checkout") == []


def test_a_changed_and_a_removed_module_are_named(app: Path) -> None:
    (app.parent / "checkout" / "serving" / "api.py").write_text("ANSWER = 2\n")
    (app / "removed.py").touch()
    assert other_code(app, app.parent / "checkout") == ["removed.py", "serving/api.py"]
