"""What every page must keep to, as a browser finds it: WCAG 2 AA, nothing wider than the screen, no cut text, and a keyboard suffices."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.full.conftest import PATIENCE_MS

__all__ = ["VIEWS", "faults_in_all_views", "faults_of", "keyboard_faults"]

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}
VIEWS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
CUT = """() => [...document.querySelectorAll("body *")].filter(each => {
    const text = [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    const box = each.getBoundingClientRect(), style = getComputedStyle(each);
    if (!text || !box.width || !box.height || style.visibility === "hidden" || each.title) return false;
    if (box.width <= 1 || box.height <= 1) return false;  // for a screen reader only
    const menu = each.closest("[data-testid='stSidebar']");
    if (menu && menu.getBoundingClientRect().right < 1) return false;  // it is folded away, and a button opens it
    return ["hidden", "clip"].includes(style.overflowX) && each.scrollWidth > each.clientWidth + 1 || box.right < 1;
}).map(each => each.outerHTML.slice(0, 160))"""
WIDE_CARDS = """() => innerWidth > 640 ? [] : [...document.querySelectorAll("table.cards")]
    .filter(each => each.parentElement.scrollWidth > each.parentElement.clientWidth + 1).map(each => each.outerHTML.slice(0, 160))"""
INTERACTIVE = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")].filter(each => {
    const box = each.getBoundingClientRect();
    return box.width && box.height && each.checkVisibility({visibilityProperty: true}) && !each.disabled && each.tabIndex >= 0
        && !(each.type === "radio" && !each.checked) && !(each.role === "radio" && each.ariaChecked !== "true");
}).map((each, number) => { each.dataset.number = number; each.dataset.look = look(each); return each.outerHTML.slice(0, 160); })"""
LOOK = """const look = (each) => {
    const parts = [];
    for (let around = each, up = 0; around && up < 5; around = around.parentElement, up++) {
        const style = getComputedStyle(around);
        parts.push([style.outlineStyle, style.outlineWidth, style.boxShadow, style.borderColor, style.backgroundColor, style.textDecoration]);
    }
    return JSON.stringify(parts);
};"""
"""How an element and those around it look. A focus that can be seen changes it."""
FOCUSED = f"""() => {{
    {LOOK}
    const each = document.activeElement;
    return each && each.dataset.number ? [each.dataset.number, look(each) !== each.dataset.look] : ["", true];
}}"""


def faults_of(page: Page, context: Any = None) -> list[str]:
    """Return what is wrong with the page that is open, as it is now.

    Args:
        page: The page.
        context: The part that axe looks at, such as a selector. By default all of it.
    """
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    found = [f"{wider} px wider than the screen"] if wider > 0 else []
    found += [f"cut text: {element}" for element in page.evaluate(CUT)]
    found += [f"a table of cards is wider than the screen: {element}" for element in page.evaluate(WIDE_CARDS)]
    for violation in Axe().run(page, context=context, options=RULES).response["violations"]:
        nodes = [f"{node['html'][:160]} ({' '.join(node['failureSummary'].split())[:200]})" for node in violation["nodes"][:8]]
        found.append(f"{violation['id']}, {len(violation['nodes'])} times: {'; '.join(nodes)}")
    return found


def keyboard_faults(page: Page) -> list[str]:
    """Return the elements that can be clicked, but that the Tab key does not reach, or whose focus cannot be seen."""
    page.evaluate("document.activeElement && document.activeElement.blur(); window.scrollTo(0, 0)")
    elements: list[str] = page.evaluate(f"() => {{ {LOOK} return ({INTERACTIVE})(); }}")
    reached: dict[str, bool] = {}
    for _ in range(2 * len(elements) + 10):
        page.keyboard.press("Tab")
        number, seen = page.evaluate(FOCUSED)
        reached[number] = reached.get(number, False) or seen
    found = [f"Tab does not reach {element}" for number, element in enumerate(elements) if str(number) not in reached]
    return found + [
        f"the focus cannot be seen: {elements[int(number)]}" for number, seen in reached.items() if number and not seen
    ]


def faults_in_all_views(browser: Browser, pages: dict[str, str], ready: str = "h1") -> list[str]:
    """Open pages at the width of a desktop and of a phone, in light and in dark, and return what is wrong with them.

    Args:
        browser: The browser.
        pages: The address of each page, by its name.
        ready: The element that a page has once it is drawn.
    """
    found = []
    for width, scheme in VIEWS:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)  # type: ignore[arg-type]
        view = context.new_page()
        view.set_default_timeout(PATIENCE_MS)
        for name, address in pages.items():
            view.goto(address)
            view.wait_for_selector(ready)
            faults = faults_of(view) + (keyboard_faults(view) if (width, scheme) == VIEWS[-1] else [])
            found += [f"{name} at {width} px, {scheme}: {fault}" for fault in faults]
        context.close()
    return found
