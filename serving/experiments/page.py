"""Renders an experiment's report as one self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.pages import VERDICT_COLOURS, data_uri, new_figure, render_template, svg_bytes, tidy, zero_line
from serving.experiments.off_policy import OffPolicyReport, estimate_rows
from serving.experiments.report import ExperimentReport, Versus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["arm_rows", "check_rows", "course_svg", "render_estimate", "render_html", "versus_rows"]

TEMPLATE = "serving/experiments/templates/experiment.html"
ESTIMATE = "serving/experiments/templates/estimate.html"
SIGNS = {"better": "✓", "worse": "✗", "not shown": "○", "too early": "…", "not to be believed": "✗"}


def render_html(report: ExperimentReport) -> bytes:
    """Render the verdict, checks, arms, differences with their intervals, and how these evolved."""
    course = course_svg(report)
    return render_template(
        TEMPLATE,
        report=report,
        checks=check_rows(report),
        marks=["passed" if check.passed else "failed" for check in report.checks],
        arms=arm_rows(report),
        versus=versus_rows(report),
        shadow=_shadow_rows(report),
        headline=_headline(report),
        course=data_uri(course) if course else "",
    ).encode()


def render_estimate(report: OffPolicyReport) -> bytes:
    """Render what exposures say about a version that was not shown."""
    found = report.estimates.get("dr")
    badge = "cannot be told" if found is None or found.difference_low <= 0 <= found.difference_high else ""
    badge = badge or ("better" if found is not None and found.difference > 0 else "worse")
    return render_template(ESTIMATE, report=report, badge=badge, estimates=estimate_rows(report)).encode()


def check_rows(report: ExperimentReport) -> list[dict[str, str]]:
    """Return the rows of the table of checks."""
    return [
        {
            "check": check.name,
            "verdict": "✓ passed" if check.passed else "✗ failed",
            "found": "" if check.figure is None else f"{check.figure:.4g}",
            "must be": check.bound,
            "in words": check.detail,
        }
        for check in report.checks
    ]


def arm_rows(report: ExperimentReport) -> list[dict[str, str]]:
    """Return the rows of the table of arms."""
    return [
        {
            "arm": f"{arm.name} (control)" if report.control == arm.name != "control" else arm.name,
            "version": ", ".join(arm.versions) or "none yet",
            "share": f"{arm.share:.0%}",
            "users exposed": f"{arm.exposed:,}",
            "users that count": f"{arm.users:,}",
            "outcomes": f"{arm.outcomes:,}",
            "mean per user": "" if arm.mean is None else f"{arm.mean:.4f}",
        }
        for arm in report.arms
    ]


def versus_rows(report: ExperimentReport) -> list[dict[str, str]]:
    """Return the rows of the table of comparisons with the control."""
    # The planned look shares alpha between the comparisons, as the other intervals do.
    level = f"{100 * (1 - report.alpha / len(report.versus)):.4g} %"
    return [_versus_row(each, level) for each in report.versus]


def _shadow_rows(report: ExperimentReport) -> list[dict[str, str]]:
    return [
        {
            "version": each.version,
            "answers": f"{each.answers:,}",
            "share of its list also shown": "" if each.overlap is None else f"{100 * each.overlap:.0f} %",
        }
        for each in report.shadow
    ]


def _versus_row(each: Versus, level: str) -> dict[str, str]:
    found = each.comparison
    if found is None:
        return {"arm": each.arm, "verdict": _signed(each.verdict)}
    looked = found.low > float("-inf")
    lift = "" if found.lift is None else f"{found.lift:+.1%}"
    if found.lift_low is not None and found.lift_high is not None:
        lift += f" ({found.lift_low:+.1%} to {found.lift_high:+.1%})"
    return {
        "arm": each.arm,
        "verdict": _signed(each.verdict),
        "difference per user": f"{found.difference:+.4f}",
        "interval, whenever you look": f"{found.low:+.4f} to {found.high:+.4f}" if looked else "not yet",
        "lift": lift,
        "p, whenever you look": f"{found.p_value:.4f}" if looked else "not yet",
        f"{level} for one planned look": f"{found.fixed_low:+.4f} to {found.fixed_high:+.4f}",
        "shown since user": "" if found.decided_at is None else f"{found.decided_at:,}",
    }


def course_svg(report: ExperimentReport) -> bytes | None:
    """Plot each arm's difference from the control as users entered, with its confidence sequence. None before the first look."""
    drawn = [each for each in report.versus if each.course.get("users")]
    if not drawn:
        return None
    figure = new_figure(9.5, 3.4 * len(drawn))
    for axes, each in zip(figure.subplots(len(drawn), 1, squeeze=False)[:, 0], drawn, strict=True):
        _draw(axes, each, report.control)
    return svg_bytes(figure)


def _draw(axes: Axes, each: Versus, control: str) -> None:
    colour = VERDICT_COLOURS[each.verdict]
    users, course = each.course["users"], each.course
    axes.fill_between(
        users, course["low"], course["high"], color=colour, alpha=0.18, linewidth=0, label="interval, valid at all looks"
    )
    axes.plot(users, course["difference"], color=colour, linewidth=1.8, label="difference so far")
    zero_line(axes, horizontal=True)
    if each.comparison is not None and each.comparison.decided_at is not None:
        axes.axvline(each.comparison.decided_at, color=colour, linewidth=1, linestyle=":", label="first shown")
    # The first intervals are so wide that they would flatten the rest.
    late = slice(len(users) // 10, None)
    low, high = min(course["low"][late]), max(course["high"][late])
    margin = 0.08 * ((high - low) or 1.0)
    axes.set(xlabel="users with a completed horizon", ylabel="per user", ylim=(low - margin, high + margin))
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=3)
    tidy(axes, f"{each.arm} - {control}")


def _signed(verdict: str) -> str:
    return f"{SIGNS[verdict]} {verdict}"


def _headline(report: ExperimentReport) -> str:
    """Return better, worse, not shown or too early, for the arm that is furthest; not to be believed if a check failed."""
    verdicts = [each.verdict for each in report.versus]
    if not report.trusted:
        return "not to be believed"
    return next((verdict for verdict in ("better", "worse", "not shown") if verdict in verdicts), "too early")
