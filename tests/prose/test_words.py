"""The words that the style guide refuses are refused by `make lint`, wherever a person may read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose.documents import ROOT, generated_pages, pages
from tests.prose.source_text import prose_of
from tests.prose.words import main, refusals, words

REFUSED = [
    "An empty file is no delivery.",
    "Of racing promotions one wins.",
    "There no value blinds it.",
    "A file is passed over.",
    "Blanks around a cell",
    "The word stands in the log.",
    "It was found that users differ.",
    "Nothing shall apply.",
    "Hence it fails.",
    "Name a file, e.g. shop.csv.",
    "A model, trained via Redis",
    "The helpers of a run",
    "The manager of runs",
    "A data set of events",
    "Look again in order to promote.",
    "Note that it fails.",
    "They run and stop, respectively.",
    "This allows to promote.",
    "The normalized shares",
    "It doesn't start.",
    "Read the the log.",
]
ALLOWED = [
    "There is no champion yet.",
    "A version is no longer served.",
    "Of the 943 requests, 800 are fresh.",
    "Of course not.".replace("Of course", "Certainly"),
    "Use it as a context manager.",
    "Blank lines are skipped.",
    "Zeros stand for events, and nothing stands in for them.",
    "It has to be trained.",
    "See /etc/prometheus for `utils`.",
    "In that way, that is better.",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_refused_word_is_found_with_what_to_write(text: str) -> None:
    (refusal,) = refusals(text, "page.md", 3)
    assert refusal.place == "page.md:3" and "in the style guide" in str(refusal) and refusal.word.instead in str(refusal)


@pytest.mark.parametrize("text", ALLOWED)
def test_good_sentences_pass(text: str) -> None:
    assert not list(refusals(text, "page.md"))


def test_the_line_of_a_refused_word_is_named(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""A module.\n\nIt says: hence\nit is.\n"""\n\n# One comment.\n# An empty file\n# is no delivery.\n\nutils = "utils"\n'
        'print(\n    f"The run {utils} was "\n    "passed over."\n)\n'
    )
    found = [refusal for piece in prose_of(path) for refusal in refusals(piece.text, "module.py", piece.line)]
    assert [refusal.place for refusal in found] == ["module.py:3", "module.py:9", "module.py:13"]


def test_nothing_in_the_project_has_a_refused_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().out
    made = [refusal for page in generated_pages() for each in page.paragraphs for refusal in refusals(each.text, page.name)]
    assert not made, "\n".join(map(str, made))


def test_a_refused_word_in_a_source_file_fails_the_lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "module.py").write_text('raise ValueError(f"{file} is no delivery of events")\n')
    (tmp_path / "tasks" / "page.html").write_text("<p>Versions that\nwere passed over</p>\n")
    assert main(tmp_path) == 1
    assert capsys.readouterr().out.count("in the style guide") == 2


def test_the_style_guide_shows_the_words() -> None:
    (shown,) = [rows[1:] for page in pages() for _, rows in page.tables if rows[0] == ("not", "but")]
    assert list(shown) == [(word.refused, word.instead) for word in words()], "the table in CONTRIBUTING.md is not words.yaml"


def test_make_lint_looks_for_the_words() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    assert "-m tests.prose.words" in recipe
