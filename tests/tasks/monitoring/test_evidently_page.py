from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from configs.settings import MonitoringSettings
from tasks.monitoring import evidently_page
from tasks.monitoring.column_checks import Compared
from tasks.monitoring.drift import DriftResult
from tasks.monitoring.evidently_page import draw_columns
from tasks.monitoring.traits import Traits

NOTHING = Compared(pd.DataFrame(), pd.DataFrame(), {}, Traits((), ()))


def result(verdict: Any, *reasons: str) -> DriftResult:
    return DriftResult(verdict, list(reasons), 10, 2, 0, 1, 10, 2, 0.0, 0.01, [])


class Snapshot:
    """A short stand-in for the page that Evidently draws."""

    def get_html_str(self, as_iframe: bool) -> str:
        return "<html><head><script> var a = {};\n var b = {};</script></head><body class='x'><h1>Dataset Drift is detected</h1></body>"


def test_the_page_opens_with_our_verdict_and_says_which_one_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidently_page, "_snapshot", lambda *_: Snapshot())
    page = draw_columns(NOTHING, result("stable"), MonitoringSettings(), "run").decode()
    banner, headline = page.index("The verdict of <code>recsys monitor</code>: stable."), page.index("Dataset Drift is detected")
    assert page.index("<body class='x'>") < banner < headline and "decide nothing" in page[banner:headline]
    page = draw_columns(NOTHING, result("drifted", "genre (<b>War</b>) moved."), MonitoringSettings(), "run").decode()
    assert "drifted.</b> genre (&lt;b&gt;War&lt;/b&gt;) moved." in page
