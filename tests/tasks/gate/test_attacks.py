"""Attacks on a challenger's way from the training machine to the promotion log: each is refused with its reason in words.

Every world holds a challenger that the gate promotes if it is left alone, so each refusal is caused by the attack.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from configs.errors import AlreadyExistsError, GateError, TrainingError, VersionCorruptError
from infra.registry import ModelRegistry, StagedVersion, file_digests
from models.evaluation import metrics
from tasks.evaluation import evaluate, load_check, rank_version
from tasks.evaluation.load_check import SAMPLE_FILE, check_loaded
from tasks.gate import Decision, gate_settings, judge_sealed, judge_staged, promote_version, publish, render_markdown
from tasks.gate.page import render_html, served_note
from tasks.stages import force_promotion
from tasks.training import read_split
from tests.tasks.world import NAME, World, edit_json, evaluated

FILES = ["model.safetensors", "config.json", "vocabulary.parquet", "evaluation.json", "ranks.parquet", SAMPLE_FILE]


def decided(world: World, staged: StagedVersion) -> Decision:
    return judge_staged(world.store, staged, "ss4rec", world.newer, world.settings)


def failed(decision: Decision) -> list[str]:
    assert decision.outcome == "held"
    return [rule.name for rule in decision.rules if rule.verdict == "failed"]


def forge_ranks(path: Path) -> None:
    """Put every target of the challenger at rank 1."""
    pd.read_parquet(path).assign(rank_ss4rec=np.int64(1)).to_parquet(path, index=False)


def older_weights(world: World) -> bytes:
    return world.store.get(f"{world.first.prefix}/model.safetensors")


@pytest.mark.full
def test_a_challenger_left_alone_is_promoted_and_the_champion_is_ranked_on_its_holdout(world: World) -> None:
    staged = world.stage()
    decision = decided(world, staged)
    assert decision.outcome == "promoted" and decision.champion == world.first.version
    served = decision.served_window  # of the requests after more than max_length events
    assert served is not None and served.max_length == 20 and served.above == served.requests > 0 and 0 < served.overlap <= 1
    assert served_note(served) in render_markdown(decision) and json.loads(json.dumps(decision.to_dict()))["served_window"]
    assert "Served window: after more than 20 events" in render_html(decision).decode()
    # The champion's figures are not those stored with it: they come from a ranking on the newer dataset's requests.
    evaluation = world.settings.evaluation
    asked = {
        dataset.version: rank_version(world.store, world.first, read_split(world.store, dataset, evaluation), evaluation)
        for dataset in (world.older, world.newer)
    }
    of_older, of_newer = (metrics(asked[dataset.version].ranks, (10,)) for dataset in (world.older, world.newer))
    assert decision.requests == len(asked[world.newer.version].ranks) > len(asked[world.older.version].ranks)
    assert decision.metrics["champion"] == of_newer != of_older
    assert of_older["ndcg@10"] == pytest.approx(world.first.metrics["ndcg@10"])
    ref = publish(world.store, staged, decision, world.candidates[-1], world.evaluation, world.settings)
    assert promote_version(world.store, ref, decision, world.settings.promotion).promotion is not None
    assert world.champion() == ref.version

    # The other way round: the champion now knows what the older version's holdout asks for.
    back = judge_sealed(world.store, world.first, world.settings.promotion)
    assert "the champion has not seen the holdout" in failed(back)
    reason = next(reason for reason in back.reasons if "trained or chosen" in reason)
    assert f"The champion {ref.version} was trained or chosen on 50.0% of the test events" in reason
    assert "dataset is older than the champion's" in reason
    assert world.champion() == ref.version


def test_no_record_calls_a_version_promoted_if_another_promotion_overtook_it(world: World) -> None:
    registry = ModelRegistry(world.store)
    ref = world.seal(world.stage())
    decision = judge_sealed(world.store, ref, world.settings.promotion)
    assert decision.outcome == "promoted" and registry.later_decisions(NAME, ref.version) == [], "it is not promoted yet"
    registry.promote(NAME, world.first.version, expected=1, kind="force", reason="meanwhile", now=datetime.now(UTC))
    once = world.settings.promotion.model_copy(update={"max_retries_on_conflict": 1})
    with pytest.raises(AlreadyExistsError, match="got a new champion 1 times"):
        promote_version(world.store, ref, decision, once)
    assert registry.later_decisions(NAME, ref.version) == [] and world.champion() == world.first.version
    published = promote_version(world.store, ref, decision, world.settings.promotion)  # it is judged again
    assert published.promotion is not None and world.champion() == ref.version
    (kept,) = [found for _, found in registry.later_decisions(NAME, ref.version)]
    assert (kept["outcome"], kept["champion_number"]) == ("promoted", 2)


@pytest.mark.parametrize("file", FILES)
def test_a_file_edited_on_the_training_machine_is_not_staged(file: str, world: World) -> None:
    path = world.folder / file
    if file == "ranks.parquet":
        forge_ranks(path)
    elif file == "model.safetensors":
        path.write_bytes(older_weights(world))
    else:
        path.write_bytes(path.read_bytes() + b" ")
    before = world.stored()
    with pytest.raises(VersionCorruptError, match=rf"{file} was changed after it was evaluated.*Nothing was promoted"):
        world.stage()
    assert world.stored() == before and world.untouched()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "evaluation.json").unlink(), r"evaluation\.json was removed after it was evaluated"),
        (lambda folder: (folder / "extra.json").write_text("{}"), r"extra\.json was added after it was evaluated"),
        (
            lambda folder: (folder / "link").symlink_to("/etc/hostname"),
            r"link is a link, but a version consists of regular files only",
        ),
    ],
)
def test_a_file_added_removed_or_linked_is_not_staged(change: Callable[[Path], object], said: str, world: World) -> None:
    change(world.folder)
    with pytest.raises(VersionCorruptError, match=said):
        world.stage()
    assert world.untouched()


def test_a_baseline_that_was_made_worse_is_not_evaluated(world: World) -> None:
    path = Path(world.candidates[0].folder) / "model.safetensors"
    save_file({"counts": -load_file(path)["counts"]}, path)
    with pytest.raises(VersionCorruptError, match=r"popularity/model\.safetensors was changed after it was trained"):
        evaluate(world.store, world.newer, world.candidates, "ss4rec", world.settings)


@pytest.mark.parametrize("file", FILES)
def test_a_file_edited_between_staging_and_sealing_is_held_and_cannot_be_sealed(file: str, world: World) -> None:
    staged = world.stage()
    world.store.put(f"{staged.prefix}/{file}", older_weights(world) if file == "model.safetensors" else b"{}")
    decision = decided(world, staged)
    assert "loads and answers as trained" in failed(decision) and decision.champion_number == 1
    assert any(f"{file} differs from its manifest: it was changed after it was stored" in reason for reason in decision.reasons)
    assert {rule.verdict for rule in decision.rules if rule.group <= 3} == {"not judged"}
    with pytest.raises(VersionCorruptError, match=f"{file} differs"):
        world.seal(staged)
    assert world.untouched()


@pytest.mark.parametrize("file", [*FILES, "decision.json"])
@pytest.mark.parametrize("kind", ["promote", "force"])
def test_a_file_edited_after_sealing_is_never_promoted(file: str, kind: str, world: World) -> None:
    ref = world.seal(world.stage())
    world.store.put(f"{ref.prefix}/{file}", older_weights(world) if file == "model.safetensors" else b"{}")
    with pytest.raises(VersionCorruptError, match=rf"{file} differs from its manifest.*must not be used"):
        ModelRegistry(world.store).promote(NAME, ref.version, expected=1, kind=kind, reason="", now=datetime.now(UTC))  # type: ignore[arg-type]
    assert world.champion() == world.first.version and len(ModelRegistry(world.store).history(NAME)) == 1
    decision = judge_sealed(world.store, ref, world.settings.promotion)
    assert "loads and answers as trained" in failed(decision) and f"{file} differs" in " ".join(decision.reasons)


def test_forged_ranks_are_found_by_ranking_what_is_stored(world: World) -> None:
    forge_ranks(world.folder / "ranks.parquet")
    decision = decided(world, world.stage(evaluated_again=True))
    true = world.evaluation.metrics["ss4rec"]["all"]
    assert failed(decision) == ["ranks as recorded"] and 0 < decision.metrics["challenger"]["hr@10"] == true["hr@10"] < 1
    assert "the stored weights give the target another rank than the stored ranks" in decision.reasons[0]
    assert world.champion() == world.first.version


@pytest.mark.parametrize(
    ("attack", "said"),
    [("another model", "answers the request of user"), ("not finite", "the stored weights are not finite")],
)
def test_other_weights_with_the_same_recorded_answers_are_held(attack: str, said: str, world: World) -> None:
    path = world.folder / "model.safetensors"
    if attack == "another model":
        path.write_bytes(older_weights(world))  # it has the same items, so it loads
    else:
        weights = load_file(path)
        weights["items.weight"][3] = float("inf")
        save_file(weights, path)
    decision = decided(world, world.stage(evaluated_again=True))
    assert "loads and answers as trained" in failed(decision) and said in " ".join(decision.reasons)
    assert decision.metrics == {} and world.untouched()


def test_a_version_without_requests_to_answer_proves_nothing(world: World) -> None:
    (world.folder / SAMPLE_FILE).write_text("[]")
    check = check_loaded(world.folder)
    assert not check.ok and check.reason == f"{SAMPLE_FILE} holds no requests to answer"


def test_a_model_that_does_not_know_half_of_the_catalogue_is_held_for_that_reason(world: World) -> None:
    vocabulary = pd.read_parquet(world.folder / "vocabulary.parquet")
    kept = np.arange(len(vocabulary)) % 2 == 0
    weights = load_file(world.folder / "model.safetensors")
    weights["items.weight"] = weights["items.weight"][[0, *(np.flatnonzero(kept) + 1)]].clone()
    save_file(weights, world.folder / "model.safetensors")
    vocabulary[kept].assign(index=np.arange(1, kept.sum() + 1)).to_parquet(world.folder / "vocabulary.parquet", index=False)
    challenger = replace(world.candidates[-1], files=file_digests(world.folder))
    evaluation, assembled = evaluated(world.store, world.newer, [world.candidates[0], challenger], world.settings)
    decision = decided(world, replace(world, assembled=assembled).stage())
    assert "knows the targets" in failed(decision)
    asked = read_split(world.store, world.newer, world.settings.evaluation).test
    unknown = int(np.isin(asked.targets, vocabulary["item_id"][~kept]).sum())
    said = f"{unknown} of {len(asked)} targets are items of the catalogue that are missing from the model's vocabulary"
    assert unknown > 0 and said in " ".join(decision.reasons)
    assert evaluation.metrics["ss4rec"]["all"]["hr@20"] <= 1 - unknown / len(asked) and world.untouched()


def test_a_challenger_is_not_judged_on_another_dataset_version_than_its_own(world: World) -> None:
    staged = world.stage()
    with pytest.raises(
        GateError, match=rf"evaluated on requests of \S+{world.newer.version} under loo-exact.*\S+{world.older.version}"
    ):
        judge_staged(world.store, staged, "ss4rec", world.older, world.settings)
    lenient = world.settings.model_copy(update={"evaluation": world.settings.evaluation.model_copy(update={"k_core": 0})})
    with pytest.raises(GateError, match="is now judged on other requests"):
        judge_staged(world.store, staged, "ss4rec", world.newer, lenient)
    # A manifest that claims the other dataset version is contradicted by the record that the version's name vouches for.
    ref = world.seal(staged)
    path = world.store.folder / ref.prefix / "manifest.json"
    edit_json(path, lambda manifest: manifest["lineage"].update(dataset=world.first.dataset))
    with pytest.raises(GateError, match="is now judged on other requests"):
        judge_sealed(world.store, replace(ref, dataset=world.first.dataset), world.settings.promotion)
    assert world.champion() == world.first.version


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda f: f.assign(target=f["target"].to_numpy()[::-1]), GateError, "is now judged on other requests"),
        (lambda f: f.head(50), GateError, "is now judged on other requests"),
        (lambda f: f.drop(columns="rank_ss4rec"), GateError, "do not include its own kind, ss4rec"),
        (lambda f: f.drop(columns="target"), VersionCorruptError, r"ranks\.parquet cannot be read \('target'\)"),
        (lambda f: f.assign(rank_ss4rec=0), VersionCorruptError, "column rank_ss4rec in .*does not hold integers from 1"),
        (
            lambda f: f.assign(rank_popularity=float("nan")),
            VersionCorruptError,
            "column rank_popularity in .*does not hold integers from 1",
        ),
    ],
)
def test_ranks_of_other_requests_and_invalid_ranks_are_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], error: type[Exception], said: str, world: World
) -> None:
    path = world.folder / "ranks.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(error, match=said):
        decided(world, world.stage(evaluated_again=True))
    assert world.untouched()


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"[]", b'{"dataset": 3}', b"\xff"])
def test_an_invalid_evaluation_record_is_refused(content: bytes, world: World) -> None:
    (world.folder / "evaluation.json").write_bytes(content)
    with pytest.raises((VersionCorruptError, GateError), match=r"evaluation\.json|is now judged on other requests"):
        decided(world, world.stage(evaluated_again=True))
    assert world.untouched()


def test_a_challenger_is_held_if_the_champion_cannot_be_ranked_but_it_can_be_forced(world: World) -> None:
    path = world.store.folder / world.first.prefix / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    staged = world.stage()
    decision = decided(world, staged)
    assert failed(decision) == ["the champion can be ranked"] and "model.safetensors" in decision.reasons[0]
    assert decision.broken is None and decision.champion == world.first.version and world.untouched()
    ref = publish(world.store, staged, decision, world.candidates[-1], world.evaluation, world.settings)
    entry = force_promotion.fn(ref, "the champion is damaged", decision, world.settings.store)
    assert entry.version == ref.version == world.champion()
    again = force_promotion.fn(ref, "the champion is damaged", decision, world.settings.store)
    assert again == entry, "an attempt that is repeated because its answer was lost changes nothing"


def test_a_challenger_is_held_if_the_champions_plugin_cannot_load_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise TrainingError("The model toy of the plugin toy_plugin:SPEC cannot be used: it did not load.")

    monkeypatch.setattr("tasks.gate.opponents.rank_version", failing)
    decision = decided(world, world.stage())
    assert failed(decision) == ["the champion can be ranked"] and "toy_plugin:SPEC" in decision.reasons[0]
    assert decision.broken is None and world.untouched()


def test_a_slow_version_is_ranked_and_held_for_its_slowness_alone(world: World) -> None:
    limits = world.settings.promotion.model_copy(update={"max_request_s": 1e-9})
    slow = replace(world, settings=world.settings.model_copy(update={"promotion": limits}))
    decision = decided(slow, slow.stage())
    assert failed(decision) == ["seconds for a request"] and decision.metrics["challenger"]["ndcg@10"] > 0
    assert "promotion.max_request_s allows 1e-09 s" in decision.reasons[0] and world.untouched()


def test_a_version_that_never_stops_answering_is_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is in CPU time, which other work on the machine does not lengthen."""
    edit_json(world.folder / SAMPLE_FILE, lambda samples: samples.extend(samples * 20_000))
    monkeypatch.setattr(load_check, "START_S", 1.0)
    limits = world.settings.promotion.model_copy(update={"max_load_s": 0.5})
    slow = replace(world, settings=world.settings.model_copy(update={"promotion": limits}))
    decision = decided(slow, slow.stage(evaluated_again=True))
    assert "loads and answers as trained" in failed(decision) and world.untouched()
    assert "had not loaded it and answered after 4 s of CPU time (5 times promotion.max_load_s, and 1 s)" in decision.reasons[1]


def test_a_check_that_is_cut_off_promotes_nothing_and_blames_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    staged = world.stage()
    with monkeypatch.context() as busy:
        busy.setattr(load_check.sys, "executable", str(python))
        decision = decided(world, staged)
        assert decision.outcome == "not judged" and "killed by SIGKILL (out of memory?)" in decision.reasons[0]
        ref = publish(world.store, staged, decision, world.candidates[-1], world.evaluation, world.settings)
        assert ref.outcome == "not judged" and world.champion() == world.first.version
        assert judge_sealed(world.store, ref, world.settings.promotion).outcome == "not judged"
    again = judge_sealed(world.store, ref, world.settings.promotion)  # when the machine is idle again
    promoted = promote_version(world.store, ref, again, world.settings.promotion).promotion
    assert promoted is not None and world.champion() == ref.version


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -11 $$", "a clean process was killed by SIGSEGV"),
        ("echo 'cannot load it' >&2; exit 3", "a clean process failed with exit code 3: cannot load it"),
        ("exit 0", "a clean process printed '' instead of the outcome of a check"),
        ("echo '{\"ok\": true}'", "instead of the outcome of a check"),
        ("printf 'noise \\377\\n'; echo '{}'", "printed 'noise .* instead of the outcome of a check"),
    ],
)
def test_whatever_the_process_does_becomes_a_reason_and_never_a_crash(
    script: str, said: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(load_check.sys, "executable", str(python))
    decision = decided(world, world.stage())
    assert re.search(said, " ".join(decision.reasons))
    assert "loads and answers as trained" in failed(decision) and world.untouched()


def test_what_a_library_prints_does_not_reach_the_outcome(world: World, tmp_path: Path) -> None:
    program = (
        "import os, sys; sys.argv = ['check', sys.argv[1], '100', '1']\n"
        "from tasks.evaluation import load_check\n"
        "def noisy(folder, patience_s): print('noise'); os.system('echo below Python'); return load_check.LoadCheck.failed('a reason')\n"
        "load_check.check_loaded = noisy\n"
        "load_check._main()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(world.folder)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["reason"] == "a reason" and "noise" in done.stderr and "below Python" in done.stderr


def test_a_held_version_edited_to_say_promoted_does_not_become_champion(world: World) -> None:
    """The stored decision is a record; nothing acts on it."""
    floors = world.settings.promotion.floors.model_copy(update={"hr_at_10": 0.99})
    promotion = world.settings.promotion.model_copy(update={"floors": floors})
    strict = replace(world, settings=world.settings.model_copy(update={"promotion": promotion}))
    staged = strict.stage()
    ref = publish(strict.store, staged, decided(strict, staged), strict.candidates[-1], strict.evaluation, strict.settings)
    folder = strict.store.folder / ref.prefix
    edit_json(folder / "decision.json", lambda decision: decision.update(outcome="promoted", reasons=[]))
    forged = file_digests(folder)["decision.json"]
    edit_json(folder / "manifest.json", lambda manifest: manifest.update(outcome="promoted"))
    edit_json(folder / "manifest.json", lambda manifest: manifest["files"].update({"decision.json": forged}))
    said = ModelRegistry(world.store).versions(NAME)[-1]
    assert (ref.outcome, said.version, said.outcome) == ("held", ref.version, "promoted")
    settings = gate_settings(world.store, said)
    decision = judge_sealed(world.store, said, settings)
    assert failed(decision) == ["hr@10 floor"]
    assert promote_version(world.store, said, decision, settings).promotion is None
    assert world.champion() == world.first.version and len(ModelRegistry(world.store).history(NAME)) == 1
