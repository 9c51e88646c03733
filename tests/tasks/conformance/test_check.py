"""`recsys model check` finds what is wrong with a kind, says it in one sentence, and is done in time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.kinds import ModelSpec, register, spec_of
from tasks.conformance import Finding, check_kind
from tasks.conformance.findings import Report
from tasks.conformance.process import check_training
from tests.examples import PLUGINS, use_examples
from tests.flows.cli.test_main import recsys
from tests.tasks.conformance import faulty

FAULTS = {
    "transposed": "returned scores of the shape (40, 60), but it must be (60, 40)",
    "doubles": "`scores` returned float64",
    "draws in scores": "Two calls with the same requests gave different scores",
    "mixes rows": "A request alone gets other scores than the same request among others",
    "reads the target": "Do not read `requests.targets`",
    "writes into the request": "read-only",
    "divides by the length": "scores are not finite",
    "counts unknown items": "Events of items outside the catalogue change the scores",
    "only knows users": "It raised KeyError",
    "reads more than max_length": "Events before the latest 3 change the scores",
    "has a vector for padding": "leave out the row for padding",
    "has vectors that are not finite": "`item_vectors` returned numbers that are not finite",
    "rates no number": "`predict_ratings` returned numbers that are not finite",
    "rates each item": "return a float32 tensor with one rating for each of 60 requests",
    "rates at random": "Two calls of `predict_ratings` with the same requests gave different ratings",
    "forgets its settings": "`settings()` returns other settings than it was made with",
    "turns the catalogue": "`catalogue` differs from the item ids that `fit` was given",
    "reports nothing": "did not report an epoch",
    "raises in fit": "It raised RuntimeError: there is no luck today",
    "pickles": "`save` wrote more.pt",
    "saves another vocabulary": "vocabulary.parquet does not list the catalogue",
    "saves no vocabulary": "`save` did not write vocabulary.parquet",
}
"""Faults that training and its answers show, and what is said about them."""


def trained(spec: ModelSpec, folder: Path, **given: str) -> list[Finding]:
    found: list[Finding] = []
    check_training(spec, given, folder, Report(lambda what: None, found.append))
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_told_in_one_sentence(fault: str, tmp_path: Path) -> None:
    wrong = [each.says for each in trained(faulty.SPEC, tmp_path, fault=fault) if not each.ok]
    assert any(FAULTS[fault] in says for says in wrong), wrong
    assert all(says.endswith((".", "?")) and "\n" not in says for says in wrong)


def test_a_sound_kind_has_no_fault(tmp_path: Path) -> None:
    found = trained(faulty.SPEC, tmp_path)
    assert len(found) > 10 and not [each for each in found if not each.ok]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (faulty.NAMELESS, "has the name 'other', but its kind is 'nameless'"),
        (faulty.NO_MODEL, "is not a subclass of models.recommender.Recommender"),
    ],
)
def test_a_class_that_is_not_what_its_spec_says_is_found_first(spec: ModelSpec, says: str, tmp_path: Path) -> None:
    (found,) = trained(spec, tmp_path)
    assert not found.ok and says in found.says


@pytest.mark.full
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("draws without the seed", "A second training with the same seed gave other scores"),
        ("unpickles", "`load` unpickles builtins.print"),
        ("loads other weights", "The loaded model gives other scores than the trained one"),
        ("dies in fit", "Its process ended with the status 9"),
    ],
)
def test_what_only_another_process_shows_is_found_too(fault: str, says: str) -> None:
    register(["tests.tasks.conformance.faulty:SPEC"])
    wrong = [each.says for each in check_kind(faulty.SPEC, {"fault": fault}, 300) if not each.ok]
    assert any(says in each for each in wrong), wrong


@pytest.mark.full
def test_a_kind_that_hangs_is_ended_and_the_finding_says_where() -> None:
    register(["tests.tasks.conformance.faulty:SPEC"])
    found = check_kind(faulty.SPEC, {"seconds": 1e6}, 20)
    assert not found[-1].ok and found[-1].says == "It had not ended after 20 s."


@pytest.mark.full
@pytest.mark.parametrize("kind", PLUGINS)
def test_the_examples_keep_every_promise(kind: str) -> None:
    use_examples()
    given = {"max_epochs": 2} if kind == "my_sasrec" else {}
    found = check_kind(spec_of(kind), given, 600)
    assert [each for each in found if not each.ok] == [] and len(found) > 15


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("popularity", {}),
        ("ncf", {"max_epochs": 1, "device": "cpu"}),
        ("ss4rec", {"max_epochs": 1, "device": "cpu", "width": 16, "blocks": 1}),
        ("recbole", {"model": "BPR", "max_epochs": 2, "device": "cpu"}),
        ("hstu", {"max_epochs": 2, "device": "cpu", "width": 16, "max_length": 8, "interval_embedding": True}),
    ],
)
def test_the_kinds_of_this_project_keep_every_promise(kind: str, given: dict[str, object]) -> None:
    found = check_kind(spec_of(kind), given, 600)
    assert [each for each in found if not each.ok] == [] and len(found) > 15


@pytest.mark.full
def test_the_command_prints_a_line_for_each_check_and_ends_with_1_if_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "findings.json"
    status = recsys("model", "check", "tests.tasks.conformance.faulty:SPEC", "--set", "fault=pickles", "--json", str(out))
    lines = capsys.readouterr().out.splitlines()
    findings = json.loads(out.read_text())
    wrong = [each for each in findings if not each["ok"]]
    assert status == 1 and len(lines) == len(findings) + 1 and len(wrong) == 1
    assert sum(line.startswith("FAULT") for line in lines) == 1 and lines[-1].endswith("1 faults.")


@pytest.mark.parametrize(("given", "says"), [("depth=3", "fault, seconds"), ("seconds=-1", "seconds")])
def test_a_setting_that_the_kind_does_not_have_is_refused(given: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert recsys("model", "check", "tests.tasks.conformance.faulty:SPEC", "--set", given) == 1
    assert says in capsys.readouterr().err
