from __future__ import annotations

import pytest

from flows.cli.terminal.display import PlainLines


@pytest.fixture(autouse=True)
def no_word_after_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands say after 10 s that they go on, and a busy machine takes longer. No test depends on how long its command takes."""
    monkeypatch.setattr(PlainLines, "_speak_up", lambda self: None)
