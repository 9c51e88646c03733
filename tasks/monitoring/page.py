"""Render the outcome of a monitoring run as a self-explanatory page."""

from __future__ import annotations

from configs.settings import DEFAULT_NOUNS, NounSettings
from infra.pages import render_template
from tasks.monitoring.checks import Check
from tasks.monitoring.drift import DriftResult
from tasks.monitoring.live_quality import LiveQuality, Quality

__all__ = ["check_rows", "live_rows", "render_drift"]

TEMPLATE = "tasks/monitoring/templates/drift.html"
FULL = 2.0  # length of a bar, as a multiple of the bound


def render_drift(result: DriftResult, evidently: str | None, nouns: NounSettings = DEFAULT_NOUNS) -> bytes:
    """Render one self-contained page: the verdict, every check with its figures, and live quality.

    Args:
        result: The verdict and all figures.
        evidently: The link to Evidently's page.
        nouns: The words for the data.
    """
    order = {"drifted": 0, "stable": 1, "not judged": 2}
    checks = sorted(result.checks, key=lambda check: order[check.verdict])
    return render_template(
        TEMPLATE,
        result=result,
        checks=[(check, _bar(check)) for check in checks],
        live=result.live,
        rows=_live_parts(result.live, nouns),
        nouns=nouns,
        evidently=evidently,
        reach=FULL,
        figure=_figure,
        p_value=_p_value,
    ).encode()


def check_rows(result: DriftResult) -> list[dict[str, str]]:
    """Return the checks as table rows for the Prefect UI."""
    return [
        {
            "check": check.name,
            "reference": _figure(check.reference),
            "slice": _figure(check.current),
            "effect": _figure(check.effect),
            "matters above": _figure(check.bound),
            "critical value": _figure(check.chance),
            "p, Holm": _p_value(check.adjusted_p),
            "verdict": check.verdict,
            "in words": check.detail,
            "effect is": check.method,
        }
        for check in result.checks
    ]


def live_rows(live: LiveQuality, nouns: NounSettings = DEFAULT_NOUNS) -> list[dict[str, str]]:
    """Return live quality and holdout quality as table rows for the Prefect UI."""
    return [
        {
            "events": name,
            "requests": f"{part.requests:,}",
            "users": f"{part.users:,}",
            "HR@10": f"{part.hr_at_10:.4f} ({part.hr_interval[0]:.4f} to {part.hr_interval[1]:.4f})",
            "NDCG@10": f"{part.ndcg_at_10:.4f} ({part.ndcg_interval[0]:.4f} to {part.ndcg_interval[1]:.4f})",
        }
        for name, part in _live_parts(live, nouns)
    ]


def _live_parts(live: LiveQuality | None, nouns: NounSettings) -> list[tuple[str, Quality]]:
    if live is None:
        return []
    parts = [
        ("after training", live.live),
        (f"of these, only {nouns.items} and {nouns.users} like those of the holdout", live.like_holdout),
        ("holdout, at training time", live.holdout),
    ]
    return [(name, part) for name, part in parts if part is not None]


def _bar(check: Check) -> dict[str, float] | None:
    """Return the positions of effect, bound and chance on a bar from 0 to 1, which ends at FULL times the bound."""
    if check.effect is None or not check.bound:
        return None
    end = FULL * check.bound
    return {
        "effect": min(max(check.effect / end, 0.0), 1.0),
        "bound": 1 / FULL,
        "chance": min(check.chance / end, 1.0) if check.chance is not None else -1.0,
    }


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _p_value(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}" if value >= 0.001 else "< 0.001"
