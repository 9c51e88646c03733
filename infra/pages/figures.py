"""What the figures have in common. matplotlib is imported when something is drawn: its import takes time, and serving lacks it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from infra.pages.palette import in_dark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "Interval",
    "data_uri",
    "draw_intervals",
    "new_figure",
    "plain",
    "png_bytes",
    "svg_bytes",
    "tidy",
    "whole_numbers",
    "zero_line",
]

COLOURED = re.compile(r"\b(fill|stroke): (#[0-9a-f]{6})")


class Interval(NamedTuple):
    """A row of a plot of intervals."""

    label: str
    low: float
    mean: float
    high: float
    colour: str


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure. Sizes are in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")


def tidy(axes: Axes, title: str = "", *, grid: Literal["both", "x"] | None = "both") -> None:
    """Give axes the common look: a title on the left, a pale grid, small text, and no frame at the top and right."""
    if grid is not None:
        axes.grid(alpha=0.25, axis=grid)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.set_title(plain(title), fontsize=10, loc="left")


def whole_numbers(axis: Axis) -> None:
    """Put the ticks of an axis on whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def zero_line(axes: Axes, *, horizontal: bool = False) -> None:
    """Mark zero with a thin line."""
    draw = axes.axhline if horizontal else axes.axvline
    draw(0, color="black", linewidth=0.8, alpha=0.6)


def draw_intervals(axes: Axes, rows: Sequence[Interval]) -> None:
    """Plot intervals below each other: a line from low to high, and a dot at the mean. The first row is at the top, at y = 0."""
    for place, row in enumerate(rows):
        axes.plot((row.low, row.high), (place, place), color=row.colour, linewidth=2, solid_capstyle="butt")
        axes.plot(row.mean, place, "o", color=row.colour, markersize=5.5)
    axes.set_yticks(range(len(rows)), [plain(row.label) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def plain(text: str) -> str:
    """Escape text that matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def svg_bytes(figure: Figure) -> bytes:
    """Return a figure as an SVG with a transparent background, which is dark where the browser asks for dark pages.

    The same figure always gives the same bytes.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "recsys", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn.replace("</svg>", f"{_dark_style(drawn)}</svg>").encode()


def _dark_style(drawn: str) -> str:
    """Return the style element that replaces each colour of an SVG in a dark browser. What has no colour is black, such as text."""
    rules = [f"svg {{ fill: {in_dark('#000000')}; }}"] + [
        f'[style*="{part}: {colour}"] {{ {part}: {in_dark(colour)} !important; }}'
        for part, colour in sorted(set(COLOURED.findall(drawn)))
    ]
    return f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>\n"


def data_uri(picture: bytes) -> str:
    """Return a PNG or SVG as an address that contains it, for pages that need no other file."""
    kind = "png" if picture.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
