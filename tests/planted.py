"""Text that an attacker might write into titles, genres, reasons and names. A page that reads any of it as markup fails."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["HOST", "PLANTED", "Elements", "planted_elements"]

HOST = "planted.example"
PLANTED = (
    "</script><script>window.__planted = 1</script>",
    '"><img src="http://planted.example/i.png" onerror="window.__planted = 2">',
    "'-alert(1)-' <svg onload=alert(2)>",
    "<!--<script>window.__planted = 3",
    "<iframe srcdoc='&lt;script&gt;top.__planted = 4&lt;/script&gt;'></iframe>",
    "<b class=planted>bold</b> <a class=planted href=javascript:window.__planted=5>link</a>",
    "[link](javascript:alert(5)) ![picture](http://planted.example/m.png)",
    "<http://planted.example/auto> http://planted.example/bare",
    "`code` *a* **b** _c_ ~~d~~ # e ](f \\",
    "a | b || c \\| d",
    "{{ 7 * 7 }} {% raw %} ${7*7} $\\frac{$ &lt;b&gt;",
    "<body><style>body { display: none }</style>",
)
"""Each text is one line without control characters, so that a browser shows it as it is written."""


class Elements(HTMLParser):
    """The elements of a page, with their attributes. What is inside scripts and styles is text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def planted_elements(page: str) -> list[str]:
    """Return the elements of a page that only PLANTED could have made."""
    found = []
    for tag, attributes in Elements(page).found:
        wrong = any(name.startswith("on") for name in attributes) or (tag in "ab" and attributes.get("class") == "planted")
        leads = any(HOST in (value or "") or (value or "").lower().startswith("javascript:") for name, value in attributes.items() if name in ("src", "href", "srcdoc"))  # fmt: skip
        if wrong or leads or tag in ("iframe", "object", "embed"):
            found.append(f"{tag} {attributes}")
    return found
