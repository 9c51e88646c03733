"""SS4Rec's parts equal those of the libraries that they re-implement. The model agrees with itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from s5 import S5
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, SS4RecSettings
from models.evaluation import Split, split
from models.loading import load_recommender
from models.losses import catalogue as loss_module
from models.losses import catalogue_cross_entropy, gbce, sampled_softmax
from models.recommender import EpochReport, Requests
from models.ss4rec import SS4Rec, SS4RecNetwork
from models.ss4rec.dropout import ByteDropout
from models.ss4rec.network import NetworkState
from models.ss4rec.relation_aware import RelationAwareLayer
from models.ss4rec.time_aware import TimeAwareLayer
from models.windows import Segments
from tests import synthetic
from tests.plain_ss4rec import PLAIN

TINY = SS4RecSettings(
    **PLAIN, width=16, blocks=1, time_state=4, relation_state=4, max_length=12, batch_tokens=96, max_epochs=3, device="cpu"
)


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(60, 40, 25)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def segments(lengths: list[int]) -> Segments:
    return Segments.of(torch.tensor([0, *np.cumsum(lengths)]), sum(lengths))


def fitted(parts: Split, settings: SS4RecSettings = TINY, seed: int = 1, **options: object) -> SS4Rec:
    model = SS4Rec(settings)
    model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=True, **options)  # type: ignore[arg-type]
    return model


def test_any_interval_keeps_the_time_aware_layer_finite() -> None:
    layer = TimeAwareLayer(8, 4, 0.001, 0.1)
    with torch.no_grad():
        layer.log_decay.fill_(-40.0)  # as near to no decay as it can get
    x = torch.randn(6, 8, requires_grad=True)
    for interval in (0.0, 1e-3, 1e5, 1e9):
        y, state = layer(x, torch.full((6,), interval), segments([6]))
        grad = torch.autograd.grad(y.sum(), x)[0]
        assert torch.isfinite(y).all() and torch.isfinite(state).all() and torch.isfinite(grad).all()
    with pytest.raises(ValueError, match="Re"):
        state_dict = S5(width=8, state_width=4).seq.state_dict()
        layer.load_stock({**state_dict, "Lambda": state_dict["Lambda"] + 10})


def test_the_relation_aware_layer_has_mamba_ssms_parameters_and_initial_time_scales() -> None:
    layer = RelationAwareLayer(64, 16, 4, 2)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "in_proj.weight": (256, 64),
        "conv1d.weight": (128, 1, 4),
        "conv1d.bias": (128,),
        "x_proj.weight": (36, 128),
        "dt_proj.weight": (128, 4),
        "dt_proj.bias": (128,),
        "A_log": (128, 16),
        "D": (128,),
        "out_proj.weight": (64, 128),
    }
    steps = F.softplus(layer.dt_proj.bias)
    assert float(steps.min()) >= 1e-4 - 1e-6 and float(steps.max()) <= 0.1 + 1e-6 and float(steps.std()) > 0.005


def test_the_catalogue_loss_equals_torchs() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(700, 8, requires_grad=True), torch.randn(2000, 8, requires_grad=True)
    targets = torch.randint(0, 2000, (700,))
    for smoothing in (0.0, 0.2):
        expected = F.cross_entropy(hidden @ weight.T, targets, label_smoothing=smoothing)
        ours = catalogue_cross_entropy(hidden, weight, targets, smoothing)
        torch.testing.assert_close(ours, expected)
        pairs = zip(
            torch.autograd.grad(ours * 2, (hidden, weight)), torch.autograd.grad(expected * 2, (hidden, weight)), strict=True
        )
        for found, wanted in pairs:
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


def test_the_sampled_losses_with_every_item_as_a_negative_equal_the_full_ones() -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(9, 4), torch.randn(12, 4), torch.randint(0, 12, (9,))
    every = torch.arange(12)
    found = sampled_softmax(hidden, weight, targets, every, torch.tensor(9.0))
    torch.testing.assert_close(found, F.cross_entropy(hidden @ weight.T, targets))
    logits, wanted = hidden @ weight.T, F.one_hot(targets, 12).float()
    plain = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / 9
    torch.testing.assert_close(gbce(hidden, weight, targets, every.expand(9, -1), torch.tensor(9.0), 0.0), plain)
    nothing = torch.full_like(targets, -1)
    assert float(sampled_softmax(hidden, weight, nothing, every, torch.tensor(9.0))) == 0


def test_a_target_below_0_does_not_count() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 4, requires_grad=True), torch.randn(12, 4, requires_grad=True)
    targets = torch.tensor([3, -1, 0, 11, -1, 5, 5, -1, 2])
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(hidden @ weight.T, targets, label_smoothing=smoothing, ignore_index=-1)
        ours = catalogue_cross_entropy(hidden, weight, targets, smoothing, torch.tensor(6.0))
        torch.testing.assert_close(ours, expected)
        pairs = zip(torch.autograd.grad(ours, (hidden, weight)), torch.autograd.grad(expected, (hidden, weight)), strict=True)
        for found, wanted in pairs:
            torch.testing.assert_close(found, wanted)


def test_the_catalogue_loss_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                largest = max(largest, made.numel())
            return made

    monkeypatch.setattr(loss_module, "CPU_ELEMENTS", 4000)
    hidden, weight = torch.randn(300, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    with Watch():
        catalogue_cross_entropy(hidden, weight, torch.randint(0, 1000, (300,)), 0.1).backward()
    assert largest == 1000 * 8  # the embedding's gradient, more than a chunk of 4 x 1000 and far less than 300 x 1000
    assert hidden.grad is not None and weight.grad is not None


@given(st.integers(1, 6), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_gbce_is_equation_12_of_gsasrec(negatives: int, calibration: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (5, 9))
    targets = torch.randint(0, 9, (5,), generator=generator)
    drawn = torch.randint(0, 9, (5, negatives), generator=generator)
    rate, expected = negatives / 8, 0.0
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    for row in range(5):
        scores = (weight @ hidden[row]).sigmoid()
        expected -= float((scores[targets[row]] ** beta).log())
        expected -= sum(float((1 - scores[item]).log()) for item in drawn[row] if item != targets[row])
    found = gbce(hidden, weight, targets, drawn, torch.tensor(5.0), calibration)
    assert float(found) == pytest.approx(expected / 5, rel=1e-4)


@pytest.mark.parametrize("scan", ["auto", "reference"])
def test_half_precision_on_the_cpu_learns_too(scan: Any, parts: Split) -> None:
    model = SS4Rec(TINY.model_copy(update={"precision": "bfloat16", "scan": scan}))
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    assert report.epochs[-1].loss < report.epochs[0].loss and torch.isfinite(model.scores(parts.test)).all()


class Killed(Exception):
    """Stands for the end of the process."""


def test_a_run_that_was_cut_short_ends_with_the_same_weights(parts: Split, tmp_path: Path) -> None:
    def die(report: EpochReport) -> None:
        raise Killed

    several = TINY.model_copy(
        update={"shuffle_ties": True, "weight_averaging": 0.9, "warm_up": 0.4, "schedule": "cosine", "full_batches": True}
    )
    whole = fitted(parts, several)
    with pytest.raises(Killed):
        fitted(parts, several, checkpoint_dir=tmp_path, on_epoch=die)
    resumed = SS4Rec(several)
    report = resumed.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True, checkpoint_dir=tmp_path)
    assert report.resumed_from == 1
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(weight, resumed.network.state_dict()[name])


def test_a_run_resumes_even_if_the_setting_wants_another_number_of_replicas(parts: Split, tmp_path: Path) -> None:
    once = TINY.model_copy(update={"max_epochs": 1})
    fitted(parts, once, checkpoint_dir=tmp_path)
    for changes, resumed_from in (({"replicas": 4}, 1), ({"width": 2 * once.width}, None)):
        model = SS4Rec(once.model_copy(update=changes))
        report = model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True, checkpoint_dir=tmp_path)
        assert report.resumed_from == resumed_from


@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce"])
def test_the_model_learns_from_sampled_negatives(loss: str, parts: Split) -> None:
    model = SS4Rec(TINY.model_copy(update={"loss": loss, "negatives": 8, "max_epochs": 6, "dropout": 0.1}))
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    assert report.epochs[-1].loss < report.epochs[0].loss


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    layer, x = ByteDropout(rate), torch.ones(301, 997, requires_grad=True)
    y = layer(x)
    dropped = float((y == 0).float().mean())
    assert abs(dropped - rate) < 0.005 and abs(float(y.mean().detach()) - 1) < 0.01
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], y)
    assert torch.equal(layer.eval()(x), x)
    torch.manual_seed(0)
    assert torch.equal(layer.train()(x), y)


@pytest.mark.parametrize(
    "options",
    [{"interval": each} for each in ("seconds", "log1p", "learned", "none")]
    + [{"norm": "pre", "interval_embedding": True}, {"calendar_input": True}],
)
def test_one_pass_equals_a_pass_over_each_prefix(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = SS4RecNetwork(20, TINY.model_copy(update=options)).eval()
    items, gaps, until = torch.randint(1, 21, (14,)), torch.rand(14) * 1e6, torch.randint(0, 10**9, (14,))
    whole = network(items, gaps, segments([9, 5]), "cpu", until=until)
    for first, last in ((0, 9), (9, 14)):
        for end in range(first + 1, last + 1):
            alone = network(items[first:end], gaps[first:end], segments([end - first]), "cpu", until=until[first:end])
            torch.testing.assert_close(whole[end - 1], alone[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"layers": each} for each in ("both", "time", "relation")]
    + [{"norm": "pre", "interval_embedding": True}, {"calendar_input": True}],
)
def test_steps_equal_the_full_pass_even_from_a_stored_state(options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SS4RecNetwork(20, TINY.model_copy(update={**options, "blocks": 2})).eval()
    lengths = [7, 7, 7]
    items, gaps, until = torch.randint(1, 21, (3, 7)), torch.rand(3, 7) * 5000, torch.randint(0, 10**9, (3, 7))
    whole = network(items.reshape(-1), gaps.reshape(-1), segments(lengths), "cpu", until=until.reshape(-1)).view(3, 7, -1)
    for backend in ("cpu", "reference"):
        state = network.start(3)
        for t in range(7):
            state, hidden = network.step(state, items[:, t], gaps[:, t], backend, until[:, t])  # type: ignore[arg-type]
            torch.testing.assert_close(hidden, whole[:, t], rtol=1e-4, atol=1e-5)
            save_file({"state": state.values}, tmp_path / "state.safetensors")
            state = NetworkState(load_file(tmp_path / "state.safetensors")["state"])
    early, late = ([part.reshape(-1) for part in (items[:, cut], gaps[:, cut], until[:, cut])] for cut in (slice(4), slice(4, 7)))
    halfway, _ = network.advance(network.start(3), *early[:2], segments([4, 4, 4]), "cpu", early[2])
    _, rest = network.advance(halfway, *late[:2], segments([3, 3, 3]), "cpu", late[2])
    torch.testing.assert_close(rest.view(3, 3, -1), whole[:, 4:], rtol=1e-4, atol=1e-5)


def test_a_second_norm_adds_its_own_weights() -> None:
    def parameters(two: bool) -> int:
        return sum(p.numel() for p in SS4RecNetwork(20, TINY.model_copy(update={"two_norms": two})).parameters())

    assert parameters(True) - parameters(False) == 2 * TINY.width


def test_the_model_learns_an_order_that_popularity_cannot(parts: Split) -> None:
    model = SS4Rec(TINY.model_copy(update={"max_epochs": 8, "dropout": 0.1, "embedding_dropout": 0.0}))
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    assert report.epochs[-1].loss < 0.9 * report.epochs[0].loss
    assert report.epochs[report.best_epoch - 1].valid["ndcg@10"] > 0.3


def test_the_same_seed_gives_the_same_weights_and_another_does_not(parts: Split) -> None:
    first, second, other = (fitted(parts, seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["items.weight"], other["items.weight"])


def test_a_saved_model_answers_the_same(parts: Split, tmp_path: Path) -> None:
    model = fitted(parts)
    model.save(tmp_path)
    loaded = load_recommender(tmp_path)
    assert isinstance(loaded, SS4Rec) and loaded.settings() == {**model.settings(), "device": "cpu"}
    torch.testing.assert_close(loaded.scores(parts.test), model.scores(parts.test), rtol=0, atol=0)


def test_scores_do_not_depend_on_who_else_is_in_the_batch(parts: Split) -> None:
    model = fitted(parts)
    together = model.scores(parts.test)
    alone = torch.cat([model.scores(parts.test.take(np.array([row]))) for row in range(5)])
    torch.testing.assert_close(together[:5], alone, rtol=1e-4, atol=1e-4)


def test_the_time_of_the_request_matters(parts: Split) -> None:
    model = fitted(parts)
    requests = parts.test.take(np.arange(4))
    fields = {name: getattr(requests, name) for name in ("user_ids", "offsets", "item_ids", "timestamps", "targets")}
    later = Requests(**fields, request_times=requests.request_times + 50)
    assert not torch.allclose(model.scores(requests), model.scores(later))


def test_empty_and_unknown_histories_are_ranked_by_popularity(parts: Split) -> None:
    model = fitted(parts)
    cold = Requests(
        user_ids=np.array([1, 2]),
        offsets=np.array([0, 0, 2]),
        item_ids=np.array([999_999, 888_888]),
        timestamps=np.array([5, 6]),
        request_times=np.array([10, 10]),
        targets=np.array([101, 101]),
    )
    scores = model.scores(cold)
    torch.testing.assert_close(scores[0], scores[1])
    ids, counts = np.unique(parts.train.item_ids, return_counts=True)
    assert counts[ids == parts.catalogue[int(scores[0].argmax())]] == counts.max()


def test_debug_finds_nothing_in_a_sound_run(parts: Split) -> None:
    checked, plain = (
        fitted(parts, TINY.model_copy(update={"debug": debug, "max_epochs": 1})).network.state_dict() for debug in (True, False)
    )
    assert all(torch.equal(checked[name], plain[name]) for name in plain)


def test_times_in_milliseconds_are_refused(parts: Split) -> None:
    frame = synthetic.interactions(30, 40, 20).assign(row=range(600), timestamp=lambda rows: rows["timestamp"] * 1000)
    wrong = split(frame, EvaluationSettings(k_core=0))
    with pytest.raises(TrainingError, match=r"milliseconds.*timestamp by 1000"):
        fitted(wrong)


def test_debug_names_the_first_module_that_breaks_and_the_switch_ends_with_the_run(parts: Split) -> None:
    model = SS4Rec(TINY.model_copy(update={"debug": True, "learning_rate": 1e30, "batch_tokens": 24}))
    with pytest.raises(TrainingError, match=r"The output of module \S+ \(\w+\) is not finite"):
        model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    assert not any(module._forward_hooks for module in model.network.modules())


def test_a_missing_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        assert SS4Rec(TINY.model_copy(update={"device": "cuda"}))._device.type == "cuda"
    else:
        with pytest.raises(TrainingError, match="Set device: auto or cpu"):
            SS4Rec(TINY.model_copy(update={"device": "cuda"}))


def test_a_model_that_mamba_ssm_trained_answers_without_it(parts: Split, tmp_path: Path) -> None:
    model = fitted(parts)
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["scan"] = "mamba-ssm"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(SS4Rec.load(tmp_path).scores(parts.test), model.scores(parts.test))


def test_a_model_without_weights_does_not_answer(parts: Split) -> None:
    with pytest.raises(TrainingError, match="no weights"):
        SS4Rec(TINY).scores(parts.test)


def test_weights_of_targets_multiply_their_losses_and_gradients() -> None:
    torch.manual_seed(0)
    targets, factors = torch.tensor([3, -1, 0, 8, 5]), torch.tensor([2.0, 9.0, 0.5, 1.0, 0.1])
    negatives = {"sampled_softmax": torch.tensor([1, 4, 3]), "gbce": torch.randint(9, (5, 3))}

    def losses(
        name: str, hidden: torch.Tensor, weight: torch.Tensor, chosen: torch.Tensor, given: torch.Tensor | None
    ) -> torch.Tensor:
        total = torch.tensor(5.0)
        if name == "cross_entropy":
            return catalogue_cross_entropy(hidden, weight, chosen, 0.1, total, given)
        if name == "gbce":
            return gbce(hidden, weight, chosen, negatives[name], total, 0.5, given)
        return sampled_softmax(hidden, weight, chosen, negatives[name], total, given)

    for name in ("cross_entropy", "sampled_softmax", "gbce"):
        hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
        found = losses(name, hidden, weight, targets, factors)
        ours = torch.autograd.grad(found, (hidden, weight))
        single = [losses(name, hidden, weight, torch.where(torch.arange(5) == row, targets, -1), None) for row in range(5)]
        wanted = sum(factor * loss for factor, loss in zip(factors, single, strict=True))
        assert torch.allclose(found, wanted, atol=1e-6)
        for own, plain in zip(ours, torch.autograd.grad(wanted, (hidden, weight)), strict=True):
            assert torch.allclose(own, plain, atol=1e-6)
        assert torch.equal(losses(name, hidden, weight, targets, None), losses(name, hidden, weight, targets, torch.ones(5)))
