"""Draw the figures of a replay as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.pages import (
    GREEN,
    LINE,
    PALE,
    RED,
    SAND,
    SOFT,
    Interval,
    draw_intervals,
    new_figure,
    plain,
    series_colours,
    svg_bytes,
    tidy,
    zero_line,
)
from tasks.replay.results import Difference, Replay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["colours", "differences_svg", "quality_svg"]

DAY_S = 86_400


def colours(found: Replay) -> dict[str, str]:
    """Return a colour for each policy, the same in all figures. A policy that never retrains is grey."""
    still = [policy.name for policy in found.policies if policy.rule == "never"]
    return series_colours([policy.name for policy in found.policies], grey=still)


def quality_svg(found: Replay) -> bytes:
    """Draw NDCG@10 and HR@10 of each policy over time, with 95 % intervals.

    Below are the gain of each policy over the first one, its drift marks and retrainings, and the incoming events.
    """
    from matplotlib.dates import ConciseDateFormatter

    lanes = 0.5 + 0.3 * len(found.policies)
    heights = [2.9, 1.9, 1.9, lanes, 1.0]
    figure = new_figure(10.4, sum(heights) + 1.2)
    level, hit, gain, marks, volume = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for place, policy in enumerate(found.policies):
        colour = colours(found)[policy.name]
        width = 1.3 + 0.9 * (len(found.policies) - 1 - place)  # so that equal lines stay visible
        dates = [_middle(found, point.slice) for point in policy.points]
        for axes, metric in ((level, "ndcg"), (hit, "hr")):
            estimates = [getattr(point, metric) for point in policy.points]
            axes.plot(
                dates,
                [each.mean for each in estimates],
                "-o",
                color=colour,
                linewidth=width,
                markersize=width + 1.2,
                label=plain(policy.name),
            )
            lows, highs = [each.low for each in estimates], [each.high for each in estimates]
            axes.fill_between(dates, lows, highs, color=colour, alpha=0.09, linewidth=0)
    _gains(gain, found)
    _marks(marks, found)
    edges = [_date(part.start) for part in found.slices]
    widths = [_date(part.end) - _date(part.start) for part in found.slices]
    volume.bar(edges, [part.accepted for part in found.slices], width=widths, align="edge", color=PALE, edgecolor="white")
    refused = [part.quarantined for part in found.slices]
    if any(refused):
        bottoms = [part.accepted for part in found.slices]
        volume.bar(edges, refused, width=widths, align="edge", bottom=bottoms, color=RED, edgecolor="white", label="quarantined")
        volume.legend(frameon=False, fontsize=8, loc="upper right")
    first = found.policies[0].name
    titles = (
        "NDCG@10 of the current champion on the events of each slice; bands are 95 % intervals over users",
        "HR@10",
        f"gain in NDCG@10 over {first}, on the same requests",
        "x drift found    hollow: retrained and held    filled: retrained and promoted",
        "incoming events",
    )
    for axes, title in zip((level, hit, gain, marks, volume), titles, strict=True):
        _planted(axes, found)
        tidy(axes, title)
    for axes in (level, hit):
        axes.set_ylim(bottom=0)
    level.legend(frameon=False, fontsize=9, ncols=min(6, len(found.policies)), loc="upper right")
    volume.set_ylim(bottom=0)
    volume.xaxis_date()
    volume.xaxis.set_major_formatter(ConciseDateFormatter(volume.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    return svg_bytes(figure)


def differences_svg(found: Replay) -> bytes | None:
    """Draw the difference in NDCG@10 of each pair with its 95 % interval, or return None if there is only one policy."""
    if not found.differences:
        return None
    rows = [
        Interval(f"{pair.a} less {pair.b}", pair.ndcg.low, pair.ndcg.mean, pair.ndcg.high, _pair_colour(pair))
        for pair in found.differences
    ]
    figure = new_figure(10.4, 0.9 + 0.36 * len(rows))
    axes = figure.subplots()
    draw_intervals(axes, rows)
    zero_line(axes)
    tidy(axes, "difference in NDCG@10 over all live requests, 95 % interval over users")
    return svg_bytes(figure)


def _pair_colour(pair: Difference) -> str:
    return SOFT if not pair.significant else GREEN if pair.ndcg.mean > 0 else RED


def _gains(axes: Axes, found: Replay) -> None:
    axes.axhline(0, color=colours(found)[found.policies[0].name], linewidth=1.2)
    others = found.policies[1:]
    for place, policy in enumerate(others):
        colour = colours(found)[policy.name]
        shift = (place - (len(others) - 1) / 2) * 0.13  # share of a slice, so that intervals are side by side
        for point in policy.points:
            part = next(part for part in found.slices if part.number == point.slice)
            width = _date(part.end) - _date(part.start)
            date = _middle(found, point.slice) + shift * width
            axes.plot((date, date), (point.gain.low, point.gain.high), color=colour, linewidth=1.4, alpha=0.75)
            axes.plot(date, point.gain.mean, "o", color=colour, markersize=3)


def _marks(axes: Axes, found: Replay) -> None:
    ends = {part.number: _date(part.end) for part in found.slices}
    for row, policy in enumerate(reversed(found.policies)):
        colour = colours(found)[policy.name]
        axes.axhline(row, color=LINE, linewidth=1, zorder=0)
        drifts = [_middle(found, number) for number in policy.drifts]
        axes.plot(drifts, [row] * len(drifts), "x", color=RED, markersize=5.5, markeredgewidth=1.4)
        for each in policy.trainings:
            inside = colour if each.outcome == "promoted" else "white"
            axes.plot(
                ends[each.slice], row, "o", markerfacecolor=inside, markeredgecolor=colour, markersize=7.5, markeredgewidth=1.5
            )
    axes.set_yticks(range(len(found.policies)), [plain(policy.name) for policy in reversed(found.policies)])
    axes.set_ylim(-0.6, len(found.policies) - 0.4)


def _planted(axes: Axes, found: Replay) -> None:
    if found.scenario:
        begin = next(part.start for part in found.slices if part.number == found.scenario_slice)
        axes.axvspan(_date(begin), _date(found.slices[-1].end), color=SAND, alpha=0.45, zorder=0, linewidth=0)
    axes.set_xlim(_date(found.slices[0].start), _date(found.slices[-1].end))


def _middle(found: Replay, number: int) -> float:
    part = next(part for part in found.slices if part.number == number)
    return (_date(part.start) + _date(part.end)) / 2


def _date(second: int) -> float:
    """Return days since 1970, the unit of dates in matplotlib."""
    return second / DAY_S
