"""A reader of thirteen understands every page at once, and every sentence that the product says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose.documents import ROOT, Page, generated_pages, pages, read_page
from tests.prose.messages import PACKAGES, Message, messages
from tests.prose.reading import grade

HARDEST = 12.0
"""The Flesch-Kincaid grade below which a page, and the messages of a package, must stay."""
HARDEST_PARAGRAPH = 16.0
SHORTEST = 20
"""Words of a paragraph, or of a message, whose own grade means something."""


def read(page: Page) -> dict[str, str]:
    """Return the place and the text of the paragraphs that are sentences."""
    return {each.place: each.text for each in page.paragraphs if not each.heading and len(each.text.split()) >= 4}


def too_hard(texts: dict[str, str]) -> list[str]:
    graded = {place: grade([text]) for place, text in texts.items() if len(text.split()) >= SHORTEST}
    return [f"{place} (grade {graded[place]:.1f}): {texts[place]}" for place in graded if graded[place] > HARDEST_PARAGRAPH]


def check(texts: dict[str, str]) -> None:
    assert not texts or grade(list(texts.values())) < HARDEST
    assert not too_hard(texts), "make several sentences of them:\n" + "\n".join(too_hard(texts))


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_page_is_easy_to_read(page: Page) -> None:
    check(read(page))


def test_pages_that_are_made_from_the_code_are_easy_to_read() -> None:
    for page in generated_pages():
        check(read(page))


@pytest.fixture(scope="module")
def said() -> list[Message]:
    return messages(ROOT)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_messages_of_a_package_are_easy_to_read(said: list[Message], package: str) -> None:
    texts = {each.place: each.text for each in said if each.place.startswith(f"{package}/")}
    assert len(texts) > 20
    check(texts)


def test_the_grade_tells_easy_from_hard() -> None:
    easy = "The gate compares two models. It keeps the better one."
    hard = (
        "Notwithstanding considerable heterogeneity, contemporaneous evaluation methodologies necessitate comprehensive "
        "characterisation of distributional discrepancies between experimental populations."
    )
    assert grade([easy]) < 5 < HARDEST_PARAGRAPH < grade([hard])
    # 0.39 * 10 words / 2 sentences + 11.8 * 13 syllables / 10 words - 15.59.
    assert grade(["The gate compares two models.", "It keeps the better one."]) == pytest.approx(0.39 * 5 + 11.8 * 1.3 - 15.59)


def test_code_tables_and_addresses_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        "# Head\n\nRun `recsys retrain` at <https://example.org/one/two>, as [the guide](https://example.org/guide) says.\n\n"
        "```sh\nrecsys setup\n```\n\n| a | b |\n|---|---|\n| c | d |\n\n!!! note\n    Read *this*.\n\n    ```yaml\n    challenger: ncf\n    ```\n"
    )
    page = read_page(path)
    assert [each.text for each in page.paragraphs] == ["Head", "Run this at this, as the guide says.", "Read this."]
    assert [(block.language, block.text, block.place) for block in page.blocks] == [
        ("sh", "recsys setup\n", "page.md:5"),
        ("yaml", "challenger: ncf\n", "page.md:16"),
    ]
    assert page.tables == (("Head", (("a", "b"), ("c", "d"))),) and page.links[-1] == "https://example.org/guide"
