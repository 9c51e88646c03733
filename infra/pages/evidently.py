"""Evidently's pages, with the text of others as data, our words at the top, and mended for those who cannot see or use a mouse.

Evidently writes titles and genres as they are into a script element, where `</script>` in a title ends the element and what
follows is markup. Its page has no title, a button without a name and table heads of a wrong role, and cuts what is wider than a
phone.
"""

from __future__ import annotations

import json
import re
from html import escape

from infra.pages.palette import DARK, GROUND, INK, LINE

__all__ = ["evidently_page"]

FIRST = re.compile(r"<script>\s*var \w+ = ")
SECOND = re.compile(r"\s*;\s*var \w+ = ")
BODY = re.compile(r"<body[^>]*>")
NO_REQUESTS = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; font-src data:; img-src data: blob:\">"
)
LOOK = f"""<style>
  body {{ margin: 0; }}
  .ours {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 1.2rem auto; padding: .8rem 1.2rem; overflow-wrap: anywhere;
    color: {INK}; background: {GROUND}; border: 1px solid {LINE}; border-radius: .5rem; }}
  .dark .ours {{ color: {DARK["ink"]}; background: {DARK["ground"]}; border-color: {DARK["line"]}; }}
  .ours h1 {{ font-size: 1.4rem; margin: .2rem 0; }}
  .ours table {{ display: block; overflow-x: auto; border-collapse: collapse; text-align: right; }}
  .ours th, .ours td {{ border: 1px solid {LINE}; padding: .3rem .6rem; overflow-wrap: normal; }}
  .dark .ours th, .dark .ours td {{ border-color: {DARK["line"]}; }}
  .MuiGrid-root {{ min-width: 0; max-width: 100%; }}
  .MuiGrid-root > div {{ max-width: 100%; overflow-x: auto; }}
  .MuiButtonBase-root:focus-visible, .MuiTableContainer-root:focus-visible {{ outline: 2px solid currentcolor; outline-offset: 2px; }}
  @media (max-width: 48rem) {{ .ours {{ margin: .6rem; }} .MuiGrid-container {{ display: block !important; }} }}
</style>"""
"""The look of our words in Evidently's light and dark theme, and what keeps its drawings within a phone's screen."""
MENDED = """<script>
new MutationObserver(() => {
  for (const each of document.querySelectorAll("span[role=columnheader]")) {
    each.setAttribute("role", "button");
    each.removeAttribute("aria-sort");
  }
  for (const each of document.querySelectorAll("[data-rfd-drag-handle-draggable-id]"))
    for (const name of ["role", "tabindex", "aria-describedby"]) each.removeAttribute(name);
  for (const each of document.querySelectorAll(".MuiTableContainer-root:not([tabindex])")) each.tabIndex = 0;
  for (const each of document.querySelectorAll("button:not([aria-label])"))
    if (!each.textContent.trim() && !each.title) each.setAttribute("aria-label", "Light or dark");
}).observe(document.body, {childList: true, subtree: true});
</script>"""
"""Names the button that changes the theme, gives what sorts a table the role of a button of its own, and lets the keyboard scroll it."""
HEAD = "<head>"
ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def evidently_page(page: str, title: str, ours: str) -> str:
    """Return the page with its data escaped, a title and our words at its top. It may ask nobody for anything.

    Args:
        page: The page that Evidently has drawn.
        title: The title of the page.
        ours: Our words, as the content of a section. It is HTML: escape what comes from outside.

    Raises:
        ValueError: The page does not look as Evidently's do.
    """
    head, before = page.find(HEAD), FIRST.search(page)
    if before is None or not 0 <= head < before.start():
        raise ValueError("Evidently's page has no data in its head: an unsupported version of Evidently is installed")
    shown, end = _data(page, before.end())
    between = SECOND.match(page, end)
    if between is None:
        raise ValueError("Evidently's page has no second block of data: an unsupported version of Evidently is installed")
    graphs, end = _data(page, between.end())
    body = BODY.search(page, end)
    if body is None:
        raise ValueError("Evidently's page has no body: an unsupported version of Evidently is installed")
    start = head + len(HEAD)
    added = f"{NO_REQUESTS}<title>{escape(title)}</title>{LOOK}"
    top = f'<section class="ours">{ours}</section>{MENDED}'
    return "".join(
        [
            page[:start],
            added,
            page[start : before.end()],
            shown,
            between.group(),
            graphs,
            page[end : body.end()],
            top,
            page[body.end() :],
        ]
    )


def _data(page: str, start: int) -> tuple[str, int]:
    """Return the JSON that starts there, escaped, and where it ends. JSON has these characters only within strings."""
    _, end = json.JSONDecoder().raw_decode(page, start)
    return page[start:end].translate(ESCAPES), end
