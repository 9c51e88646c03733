"""Hooks of MkDocs: they add the pages that are made from the code, and those that are files in the root of the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from website.glossary import explained, terms_in
from website.reference import PAGES

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FROM_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for target, page in PAGES.items():
        files.append(File.generated(config, target, content=page()))
    for source, target in FROM_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=in_site(text)))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Explain the terms of a page, but neither in the glossary itself nor in what is looked up."""
    if page.file.src_uri == "contributing.md" or page.file.src_uri.startswith("reference/"):
        return html
    return explained(html, terms_in((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))


def in_site(text: str) -> str:
    """Return a document of the root with its links as they are on the site. Links to other files of the repository become code."""

    def there(link: re.Match[str]) -> str:
        words, target, place = link[1], link[2], link[3] or ""
        if target in FROM_ROOT:
            return f"[{words}]({FROM_ROOT[target]}{place})"
        if target.startswith("docs/"):
            return f"[{words}]({target.removeprefix('docs/')}{place})"
        return words if words.startswith("`") else f"`{words}`"

    return LINK.sub(there, text)
