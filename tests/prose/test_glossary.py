"""No page has a term that the glossary lacks."""

from __future__ import annotations

import re

import pytest

from tests.prose.documents import ROOT, Page, pages
from tests.prose.source_text import FOLDERS

GENERAL = """
    ACM API APIs ASCII AWS CI CLI CPU CPUs CSS CSV CSVs CUDA DOI GB GPU GPUs HTML HTTP HTTPS IAM ID IDs ISO JSON KB LRU MB MIT ML OS PDF
    PNG RAM SHA SQL SSD SVG TLS TOML UI URL URLs USD UTC UTF UUID UUIDs VPN YAML CHANGELOG CONTRIBUTING README SECURITY
"""
"""Abbreviations that a reader of any technical page knows, and names of files."""
NAMES = "AMD ARM BPR EPYC GRU H200 HSTU KDD KMS NVIDIA S3 VLDB WWW"
"""Names of products, services, models of others, and places of publication."""
JARGON = {
    "anchor": "anchor", "arms?": "arm", "baselines?": "baseline", "candidates?": "candidate", "challengers?": "challenger",
    "champions?": "champion", "cold start": "cold start", "compact(?:s|ed|ion)": "compaction", "drift(?:s|ed)?": "drift",
    "exposures?": "exposure", "full ranking": "full ranking", "gates?": "gate", "Gini index": "Gini index", "held": "held",
    "histories": "histories", "holdouts?": "holdout", "Holm's correction": "Holm's correction", "horizon": "horizon",
    "id maps?": "id map", "intervals?": "interval", "landing zones?": "landing zone", "leave-one-out": "leave-one-out",
    "lineage": "lineage", "live quality": "live quality", "manifests?": "manifest", "masked": "masked", "null distribution":
    "null distribution", "plugins?": "plugin", "pods?": "pod", "policy|policies": "policy", "presets?": "preset",
    "protocols?": "protocol", "quarantined?": "quarantine", "replays?": "replay", "rollbacks?": "rollback",
    "sealed": "staged, sealed", "shadow": "shadow", "slices?": "slice", "staged": "staged, sealed", "study|studies": "study",
    "superseded": "current, superseded", "watermark": "watermark", "k-core|5-core": "k-core", "non-inferior": "non-inferior",
    "state space": "state space layer", "SS4Rec": "SS4Rec", "NCF": "NCF", "HR(?:@10)?": "HR@10", "NDCG(?:@10)?": "NDCG@10",
    "MRR(?:@10)?": "MRR@10", "S5": "state space layer", "Mamba": "state space layer", "EASE": "EASE", "MF": "MF", "RMSE": "RMSE", "MAE": "MAE",
    "refits?": "refit", "inverse propensity": "inverse propensity", "doubly robust": "doubly robust",
}  # fmt: skip
"""Words of the trade, and the row of the glossary that explains each."""
ABBREVIATION = re.compile(r"(?<![\w.-])[A-Z][A-Z0-9]+s?(?![\w-])")


def rows() -> dict[str, str]:
    """Return the glossary: each term with its meaning."""
    (found,) = [table for page in pages() for heading, table in page.tables if table[0] == ("term", "meaning")]
    return {term.strip("*"): meaning for term, meaning in found[1:]}


def words_of(page: Page) -> str:
    cells = [
        re.sub(r"`[^`]*`", "", cell)
        for _, table in page.tables
        if table[0] != ("term", "meaning")
        for row in table
        for cell in row
    ]
    return "\n".join([*(each.words for each in page.paragraphs), *cells])


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_the_glossary_explains_the_terms_of_a_page(page: Page) -> None:
    text, known = words_of(page), rows()
    lacking = {row for words, row in JARGON.items() if row not in known and re.search(rf"\b(?:{words})\b", text)}
    explained = {each for words, row in JARGON.items() for each in ABBREVIATION.findall(text) if re.fullmatch(words, each)}
    unknown = set(ABBREVIATION.findall(text)) - explained - set(f"{GENERAL} {NAMES}".split())
    assert not lacking, f"add rows to the glossary in CONTRIBUTING.md: {sorted(lacking)}"
    assert not unknown, f"spell {sorted(unknown)} out, or add a row to the glossary in CONTRIBUTING.md and a line to JARGON"


def test_every_row_of_the_glossary_is_used() -> None:
    files = [
        path for folder in FOLDERS if folder != "tests" for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".html")
    ]
    text = "\n".join([*(path.read_text(encoding="utf-8") for path in files), *map(words_of, pages())]).lower()
    unused = [term for term in rows() if not any(part.lower() in text for part in term.split(", "))]
    assert not unused, "delete these rows of the glossary, because nothing uses the term"


def test_the_glossary_has_one_row_for_a_term_and_readme_links_it() -> None:
    (found,) = [table for page in pages() for _, table in page.tables if table[0] == ("term", "meaning")]
    assert len(found) - 1 == len(rows()) and all(len(meaning.split()) >= 4 for meaning in rows().values())
    assert any("CONTRIBUTING.md" in link for page in pages() if page.name == "README.md" for link in page.links)
