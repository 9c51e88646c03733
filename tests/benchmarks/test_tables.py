"""The tables of docs/benchmarks are made from the results, and from nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.report import write_result
from benchmarks.tables import PAGES, RESULTS, TABLES, TableError, drifted, filled, table

ROOT = Path(__file__).parents[2]
EMPTY = "Before.\n\n<!-- table: {} -->\n<!-- end -->\n\nAfter.\n"
AT_HAND = [name for name, known in TABLES.items() if (RESULTS / known.file).exists()]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, arguments)])
    tables.main()


def test_the_pages_say_what_the_results_say() -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
    assert {path: found for path, text in pages.items() if (found := drifted(text))} == {}
    shown = {path: {mark["name"] for mark in tables.MARKED.finditer(text)} for path, text in pages.items()}
    assert set().union(*shown.values()) == set(AT_HAND)
    assert {path for path, names in shown.items() if names} <= {ROOT / "README.md", *PAGES.glob("*.md")}


def test_every_result_has_a_table() -> None:
    kept = {path.name for path in RESULTS.glob("*.json")}
    without = kept - {known.file for known in TABLES.values()}
    assert kept and not without, f"add a table of {without} to benchmarks/tables.py"


@pytest.mark.parametrize("name", AT_HAND)
def test_a_table_is_whole_and_says_how_it_was_measured(name: str) -> None:
    made = table(name)
    rows, _, measured = made.rstrip("\n").partition("\n\n")
    assert made == table(name) and len(rows.splitlines()) >= 3
    assert len({line.replace("\\|", "").count("|") for line in rows.splitlines()}) == 1
    result = json.loads((RESULTS / TABLES[name].file).read_text(encoding="utf-8"))
    assert TABLES[name].command in measured and result["hardware"]["cpu"] in measured
    assert "nan" not in made.lower() and "None" not in made


def test_a_figure_stands_beside_its_bar_even_if_it_misses_it() -> None:
    result = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    made = table("speed").splitlines()
    for name, row in result["epochs"].items():
        line = next(line for line in made if line.startswith(f"| `{name}`: epoch"))
        assert f"{row['epoch_s']:.3f} s" in line and ("**missed**" in line) == (row["epoch_s"] >= 0.2)


def test_figures_of_the_rebuilt_data_set_say_so(tmp_path: Path) -> None:
    assert "ML-1M (rebuilt)" in table("speed") and "ML-100K" in table("cpu-speed")
    result = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8")) | {"file": "ml-1m, as published"}
    (tmp_path / "speed.json").write_text(json.dumps(result))
    assert "ML-1M," in table("speed", tmp_path) and "(rebuilt)" not in table("speed", tmp_path)


def test_a_document_is_filled_in_place_and_its_differences_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "doc.md"
    document.write_text(EMPTY.format("scale") + EMPTY.format("parity"))
    with pytest.raises(SystemExit, match=r"differs from the results in: scale, parity.*--write"):
        run(monkeypatch, "--check", document)
    run(monkeypatch, "--write", document)
    text = document.read_text()
    assert text.count("Before.") == text.count("After.") == 2 and table("scale") in text and table("parity") in text
    run(monkeypatch, "--check", document)
    assert filled(text) == text and drifted(text.replace("20.45", "2.45")) == ["scale"]
    assert [path.name for path in tmp_path.iterdir()] == ["doc.md"]


def test_without_a_document_all_tables_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch)
    printed = capsys.readouterr().out
    assert [mark["name"] for mark in tables.MARKED.finditer(printed)] == AT_HAND and drifted(printed) == []


def test_the_error_says_why_a_table_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "doc.md"
    for text, message in (
        (EMPTY.format("sped"), r"no table 'sped'\. Available tables: .*speed"),
        (EMPTY.format("speed"), r"needs .*speed\.json, which `python -m benchmarks\.training\.speed` writes"),
        ("<!-- table: speed -->\n\n<!-- table: scale -->\n<!-- end -->\n", "has no line <!-- end -->"),
    ):
        document.write_text(text)
        with pytest.raises(SystemExit, match=message):
            run(monkeypatch, "--write", document, "--results", tmp_path)
        assert document.read_text() == text
    with pytest.raises(TableError):
        table("nothing")


def test_runs_of_two_versions_of_the_code_make_no_table(tmp_path: Path) -> None:
    result = json.loads((RESULTS / "ss4rec_quality.json").read_text(encoding="utf-8"))
    for number, run in enumerate(result["runs"]):
        run["commit"] = f"{number % 2}abcdef0123"
    (tmp_path / "ss4rec_quality.json").write_text(json.dumps(result))
    with pytest.raises(TableError, match=r"table ss4rec-quality are of different code \(0abcdef, 1abcdef\)"):
        table("ss4rec-quality", tmp_path)


def test_a_result_says_which_code_and_which_command_measured_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ml-1m.zip").touch()
    monkeypatch.setattr(sys, "argv", ["-c", "--data", str(tmp_path / "ml-1m.zip"), "--out", "there.json", "--set", "a=b c"])
    write_result(tmp_path / "found.json", {"seed": 1})
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["measured"]
    assert found["command"].endswith("--data ml-1m.zip --set 'a=b c'") and "there.json" not in found["command"]
    assert found["commit"] and found["date"].startswith("20")
