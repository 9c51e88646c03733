"""SS4Rec's parts against the libraries they re-state, and the model against itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from s5 import S5

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, SS4RecSettings
from models.loading import load_recommender
from models.protocol import Split, split
from models.recommender import Requests
from models.ss4rec.dropout import ByteDropout
from models.ss4rec.loss import catalogue_cross_entropy
from models.ss4rec.network import SS4RecNetwork
from models.ss4rec.recommender import SS4Rec
from models.ss4rec.relation_aware import RelationAwareLayer
from models.ss4rec.scan import complex_scan, resolve_backend, selective_scan
from models.ss4rec.time_aware import TimeAwareLayer
from tests import synthetic

TINY = SS4RecSettings(width=16, blocks=1, time_state=4, relation_state=4, max_length=12, batch_size=8, max_epochs=3, device="cpu")


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(60, 40, 25)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def fitted(parts: Split, settings: SS4RecSettings = TINY, seed: int = 1, **options: object) -> SS4Rec:
    model = SS4Rec(settings)
    model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=True, **options)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize("length", [1, 5, 16, 37])
def test_compiled_recurrences_equal_the_reference_with_gradients(length: int) -> None:
    torch.manual_seed(length)
    a = torch.rand(3, length, 4, 2) * 0.7
    b, start = torch.randn(3, length, 4, 2), torch.randn(3, 4, 2)
    u, c, state = torch.randn(3, length, 5), torch.randn(3, length, 6), torch.randn(3, 5, 6)
    delta, rate, bb = torch.rand(3, length, 5), -torch.rand(5, 6) * 4, torch.randn(3, length, 6)

    def complex_loss(backend: str, *values: torch.Tensor) -> torch.Tensor:
        return complex_scan(*values, backend=backend).square().sum()  # type: ignore[misc]

    def selective_loss(backend: str, *values: torch.Tensor) -> torch.Tensor:
        y, final = selective_scan(*values, backend=backend)  # type: ignore[misc]
        return y.square().sum() + (final * final).sum()

    for loss, values in ((complex_loss, (a, b, start)), (selective_loss, (u, delta, rate, bb, c, state))):
        grads = []
        for backend in ("reference", "compiled"):
            leaves = tuple(value.clone().requires_grad_() for value in values)
            grads.append(torch.autograd.grad(loss(backend, *leaves), leaves))
        for ours, expected in zip(grads[1], grads[0], strict=True):
            torch.testing.assert_close(ours, expected, rtol=2e-4, atol=2e-4 * float(expected.abs().max()))


def test_reference_recurrences_pass_gradcheck() -> None:
    torch.manual_seed(0)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(complex_scan, (leaf(2, 4, 3, 2), leaf(2, 4, 3, 2), leaf(2, 3, 2)))
    a = -torch.rand(3, 2, dtype=torch.float64)
    inputs = (leaf(2, 4, 3), leaf(2, 4, 3), a.requires_grad_(), leaf(2, 4, 2), leaf(2, 4, 2), leaf(2, 3, 2))
    assert torch.autograd.gradcheck(lambda *values: selective_scan(*values), inputs)


def test_backends_are_chosen_by_device() -> None:
    assert resolve_backend("auto", torch.device("cpu")) == "compiled"
    assert resolve_backend("auto", torch.device("cuda")) == "reference"
    assert resolve_backend("reference", torch.device("cpu")) == "reference"


def test_the_time_aware_layer_equals_s5_pytorch_with_its_parameters() -> None:
    torch.manual_seed(0)
    stock = S5(width=12, state_width=6, dt_min=0.001, dt_max=0.1).seq
    layer = TimeAwareLayer(12, 6, 0.001, 0.1)
    layer.load_stock(stock.state_dict())
    x, steps = torch.randn(2, 9, 12), torch.rand(2, 9) * 50
    ours, last = layer(x, steps)
    theirs = torch.stack([stock(row, step_scale=step) for row, step in zip(x, steps, strict=True)])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    halves, state = layer(x[:, :4], steps[:, :4])
    torch.testing.assert_close(layer(x[:, 4:], steps[:, 4:], state)[0], ours[:, 4:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(halves, ours[:, :4])
    assert last.shape == (2, 6, 2)


def test_any_interval_keeps_the_time_aware_layer_finite() -> None:
    layer = TimeAwareLayer(8, 4, 0.001, 0.1)
    with torch.no_grad():
        layer.log_decay.fill_(-40.0)  # as near to no decay as it can get
    x = torch.randn(1, 6, 8, requires_grad=True)
    for interval in (0.0, 1e-3, 1e5, 1e9, -5.0):
        y, state = layer(x, torch.full((1, 6), interval))
        grad = torch.autograd.grad(y.sum(), x)[0]
        assert torch.isfinite(y).all() and torch.isfinite(state).all() and torch.isfinite(grad).all()
    with pytest.raises(ValueError, match="Re"):
        state_dict = S5(width=8, state_width=4).seq.state_dict()
        layer.load_stock({**state_dict, "Lambda": state_dict["Lambda"] + 10})


def mamba_reference(layer: RelationAwareLayer, x: torch.Tensor) -> torch.Tensor:
    """mamba-ssm's Mamba.forward and selective_scan_ref (2.3.2), transcribed for the CPU: (B, D, L) tensors, float32."""
    length = x.shape[1]
    xz = (layer.in_proj.weight @ x.transpose(1, 2)).contiguous()
    u, z = xz.chunk(2, dim=1)
    u = F.silu(layer.conv1d(u)[..., :length])
    projected = layer.x_proj(u.transpose(1, 2))
    dt, b, c = projected.split([layer.rank, layer.states, layer.states], dim=-1)
    delta = F.softplus((dt @ layer.dt_proj.weight.T).transpose(1, 2) + layer.dt_proj.bias[:, None])
    a = -torch.exp(layer.A_log)
    state, outputs = x.new_zeros(len(x), layer.inner, layer.states), []
    for t in range(length):
        decay = torch.exp(delta[:, :, t, None] * a)
        state = decay * state + delta[:, :, t, None] * b[:, t, None, :] * u[:, :, t, None]
        outputs.append((state @ c[:, t, :, None])[..., 0])
    y = (torch.stack(outputs, dim=2) + u * layer.D[:, None]) * F.silu(z)
    return layer.out_proj(y.transpose(1, 2))  # type: ignore[no-any-return]


def test_the_relation_aware_layer_equals_mambas_reference_maths_and_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    layer = RelationAwareLayer(16, 4, 4, 2)
    x = torch.randn(2, 11, 16)
    for backend in ("reference", "compiled"):
        whole, _ = layer(x, backend=backend)  # type: ignore[arg-type]
        torch.testing.assert_close(whole, mamba_reference(layer, x), rtol=1e-4, atol=1e-6)
        first, state = layer(x[:, :2], backend=backend)  # type: ignore[arg-type]
        second, _ = layer(x[:, 2:], state, backend=backend)  # type: ignore[arg-type]
        torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-4, atol=1e-6)


def test_mamba_ssms_parameter_names_shapes_and_initial_time_scales() -> None:
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


def test_padding_and_the_future_are_not_seen() -> None:
    torch.manual_seed(0)
    network = SS4RecNetwork(20, TINY).eval()
    items, gaps = torch.randint(1, 21, (2, 9)), torch.rand(2, 9) * 1000
    whole = network(items, gaps, "compiled")
    shorter = network(items[:, :5], gaps[:, :5], "compiled")
    torch.testing.assert_close(whole[:, :5], shorter, rtol=1e-4, atol=1e-5)
    changed = items.clone()
    changed[:, 6:] = 0
    torch.testing.assert_close(network(changed, gaps, "compiled")[:, :6], whole[:, :6], rtol=1e-4, atol=1e-5)


def test_one_norm_or_two() -> None:
    def parameters(two: bool) -> int:
        return sum(p.numel() for p in SS4RecNetwork(20, TINY.model_copy(update={"two_norms": two})).parameters())

    assert parameters(True) - parameters(False) == 2 * TINY.width


def test_it_learns_the_order_that_popularity_cannot(parts: Split) -> None:
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


def test_nobody_and_strangers_are_ranked_by_popularity(parts: Split) -> None:
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


def test_without_weights_it_does_not_answer(parts: Split) -> None:
    with pytest.raises(TrainingError, match="no weights"):
        SS4Rec(TINY).scores(parts.test)
