"""The colours of pages, figures and charts."""

from __future__ import annotations

from collections.abc import Collection, Iterable

__all__ = [
    "AMBER",
    "BLUE",
    "DARK",
    "DARK_PAGE",
    "GREEN",
    "GREY",
    "GROUND",
    "INK",
    "LINE",
    "ORANGE",
    "PAGE",
    "PALE",
    "RED",
    "SAND",
    "SERIES",
    "SOFT",
    "STYLE_VARIABLES",
    "VERDICT_COLOURS",
    "in_dark",
    "interval_colour",
    "light_or_dark",
    "series_colours",
    "tint",
]

BLUE, ORANGE, PURPLE, GREEN, RED = "#1f6f8b", "#cf7a24", "#5b4b8a", "#2f7d5b", "#b5533c"
OLIVE, INDIGO, PINK = "#8a7a1f", "#3f5fa8", "#a04b7d"
AMBER = "#a8761c"  # waits for somebody
SAND = "#f3e3c8"  # background of a time in which a change was planted
INK, SOFT = "#1c2328", "#5f6b73"  # text; notes, and whatever is undecided
GREY, PALE = "#7a848b", "#b8c2c8"  # lines that serve as a reference; marks that matter least
LINE, GROUND = "#e3e7ea", "#f3f6f7"  # rules of tables; background of what is set apart
SERIES = (BLUE, ORANGE, PURPLE, GREEN, RED, OLIVE, INDIGO, PINK)
VERDICT_COLOURS = {"better": GREEN, "worse": RED, "not shown": SOFT, "too early": SOFT, "not to be believed": SOFT}

_NAMED = {
    "blue": BLUE,
    "orange": ORANGE,
    "purple": PURPLE,
    "green": GREEN,
    "red": RED,
    "olive": OLIVE,
    "indigo": INDIGO,
    "pink": PINK,
    "amber": AMBER,
    "sand": SAND,
    "ink": INK,
    "soft": SOFT,
    "grey": GREY,
    "pale": PALE,
    "line": LINE,
    "ground": GROUND,
}
DARK = {
    "blue": "#6cb8d3",
    "orange": "#e8a35c",
    "purple": "#ab9bdd",
    "green": "#6cc299",
    "red": "#f0937d",
    "olive": "#cbbb5a",
    "indigo": "#8fa9ea",
    "pink": "#de90bb",
    "amber": "#dcae5b",
    "sand": "#4d4024",
    "ink": "#e6eaed",
    "soft": "#a9b4bb",
    "grey": "#929da5",
    "pale": "#56626b",
    "line": "#343d45",
    "ground": "#1e262c",
}
"""The same colours on a dark page. Text in each of them has a contrast of at least 4.5 to the page."""
PAGE, DARK_PAGE = "#ffffff", "#11161b"
STYLE_VARIABLES = (
    f":root {{ {' '.join(f'--{name}: light-dark({colour}, {DARK[name]});' for name, colour in _NAMED.items())} "
    f"--page: light-dark({PAGE}, {DARK_PAGE}); "
    # A report lies on a desk: in the light, a white sheet on grey; in the dark, a grey sheet on black.
    f"--sheet: light-dark({PAGE}, {DARK['ground']}); --desk: light-dark({GROUND}, {DARK_PAGE}); }}"
)
"""CSS that defines the colours as variables: `var(--blue)`. Each is light or dark as the `color-scheme` of its element asks."""
GRID = "#b0b0b0"  # of matplotlib
_IN_DARK = {colour: DARK[name] for name, colour in _NAMED.items()} | {
    "#000000": DARK["ink"],
    GRID: DARK["grey"],
    PAGE: DARK["ground"],
}


def in_dark(colour: str) -> str:
    """Return what a colour such as "#2f7d5b" becomes on a dark sheet. One that is not in the palette becomes half as far from white."""
    pale = [(int(colour[place : place + 2], 16) + 255) // 2 for place in (1, 3, 5)]
    return _IN_DARK.get(colour, f"#{pale[0]:02x}{pale[1]:02x}{pale[2]:02x}")


def light_or_dark(colour: str) -> str:
    """Return a colour as CSS that is the colour itself on a light sheet, and `in_dark(colour)` on a dark one."""
    return f"light-dark({colour}, {in_dark(colour)})"


def series_colours(names: Iterable[str], grey: Collection[str] = ()) -> dict[str, str]:
    """Return a colour for each name in the order of SERIES. Names in `grey` are grey and take no colour from the others."""
    coloured = [name for name in names if name not in grey]
    chosen = {name: SERIES[place % len(SERIES)] for place, name in enumerate(coloured)}
    return chosen | dict.fromkeys(grey, GREY)


def interval_colour(low: float, high: float) -> str:
    """Return green for an interval above zero, red for one below, and grey for one that contains zero."""
    return GREEN if low > 0 else RED if high < 0 else SOFT


def tint(colour: str, strength: float) -> str:
    """Return a colour such as "#2f7d5b" as CSS, with an opacity between 0 and 1."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {strength:.2f})"
