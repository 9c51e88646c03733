"""The page that shows the OpenAPI document: Swagger UI, whose files are installed with `fastapi-swagger`."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

import fastapi_swagger
from fastapi.openapi.docs import get_swagger_ui_html

from serving.pages import Content

__all__ = ["FILES", "documentation", "file_content"]

FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
"""Media types of the files that the page loads, by name."""
OWN_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

LEGIBLE = """<style>
  html:not(.dark-mode) {
    .swagger-ui .opblock .opblock-summary-method, .swagger-ui .info .title small pre.version { color: #000; text-shadow: none; }
    .swagger-ui .info .title small, .swagger-ui .info .title small.version-stamp { background: #d5dbe1; }
    .swagger-ui a.link, .swagger-ui .info .base-url, .swagger-ui .info .link .url, .swagger-ui .info a { color: #0b57b0; }
    .swagger-ui .opblock-tag small, .swagger-ui .opblock .opblock-summary-description { color: #3b4151; }
    .swagger-ui .parameter__in, .swagger-ui .parameter__extension, .swagger-ui .parameter__deprecated { color: #4a525b; }
    .swagger-ui .parameter__name.required span, .swagger-ui .parameter__name.required::after { color: #a61b1b; }
    .swagger-ui .btn.cancel { color: #a61b1b; border-color: #a61b1b; }
    .swagger-ui .btn.execute { background: #1d5a9e; border-color: #1d5a9e; }
    .swagger-ui .download-contents { background: #3f464e; }
  }
  html.dark-mode {
    .swagger-ui .btn.cancel { color: #ff9d9d !important; border-color: #ff9d9d; }
    .swagger-ui .examples-select__section-label { color: #e4e6e6; }
  }
  .swagger-ui .microlight span[style*="211, 99, 99"] { color: #f0a5a5 !important; }
  .swagger-ui :is(.opblock-summary-control, .models-control, pre.microlight):focus-visible { outline: 3px solid #6cb8d3 !important; }
  .swagger-ui .response-col_links { display: none; }
  @media (max-width: 40rem) {
    .swagger-ui .opblock-tag { flex-wrap: wrap; }
    .swagger-ui .opblock-tag small { flex: 1 0 100%; order: 1; padding: 0; }
  }
  body { margin: 0; }
</style>"""
"""Colours with enough contrast, where Swagger UI has fainter ones, and tags that fit a phone. The API has no links between answers."""
SCHEME = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
"""
"""A script that gives the page the browser's scheme. Swagger UI has dark colours, but only its own top bar, which this page lacks,
switches to them."""
NAMED = """
new MutationObserver(() => {
  for (const each of document.querySelectorAll("select:not([aria-label], [id])")) each.setAttribute("aria-label", "Example");
  for (const each of document.querySelectorAll("textarea:not([aria-label])")) each.setAttribute("aria-label", "Body of the request");
  for (const each of document.querySelectorAll("pre:not([tabindex])"))
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", "Code"]]) each.setAttribute(name, value);
}).observe(document.body, {childList: true, subtree: true});
"""
"""A script that names each list of examples and each body, and lets the keyboard scroll each box of code."""


@cache
def documentation(title: str) -> Content:
    """Return the page. Its links are relative, so that it also works below a proxy's path."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
        swagger_ui_parameters={"deepLinking": False, "defaultModelsExpandDepth": 0, "displayRequestDuration": True},
    )
    text = (
        bytes(page.body)
        .decode()
        .replace("<html>", '<html lang="en">', 1)
        .replace("</head>", f"{LEGIBLE}\n<script>{SCHEME}</script>\n</head>", 1)
    )
    text = text.replace("</body>", f"<script>{NAMED}</script>\n</body>", 1)
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in re.findall(r"<script>(.*?)</script>", text, re.DOTALL))
    policy = (
        f"script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; {OWN_POLICY}"
    )
    return Content.of(text.encode(), "text/html; charset=utf-8", policy)


@cache
def file_content(name: str) -> Content:
    """Return one of `FILES`."""
    return Content.of(files(fastapi_swagger).joinpath("resources", name).read_bytes(), FILES[name], OWN_POLICY)


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
