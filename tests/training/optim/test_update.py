"""Steps weight by weight: the same as all at once, in the backward pass too, and honest in bf16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from atelier.config.errors import AtelierError
from atelier.jobs.control import Control
from atelier.models.checkpoints.load import load_checkpoint
from atelier.training.optim import norms
from atelier.training.optim.ema import Average
from atelier.training.optim.optimizers import create_optimizer
from atelier.training.optim.update import Updater, clip_gradients, load_optimizer, round_at_random
from tests.support.training_fakes import TinyHost, assert_same, run, tiny_job, write_pictures

pytestmark = pytest.mark.slow

ADAFACTOR = ["relative_step=False", "scale_parameter=False", "warmup_init=False"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def test_rounding_at_random_keeps_the_mean() -> None:
    step = 2.0**-9  # a quarter of what bf16 tells apart at 1
    source = torch.full((40_000,), 1.0 + step)
    target = torch.empty(40_000, dtype=torch.bfloat16)
    round_at_random(target, source, torch.Generator().manual_seed(0))
    assert set(target.unique().tolist()) == {1.0, 1.0078125}
    assert target.float().mean().item() == pytest.approx(1.0 + step, abs=1e-4)
    odd = torch.tensor([0.0, -1.0, float("inf"), float("nan"), 3.0])
    round_at_random(target[:5], odd, torch.Generator().manual_seed(0))
    assert target[:3].tolist() == [0.0, -1.0, float("inf")] and target[3].isnan() and target[4] == 3.0


def model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)


def trained(kind: str, name: str, arguments: list[str], dtype: torch.dtype = torch.float32, steps: int = 4) -> Any:
    """Weights and optimiser after some steps, taken "at once", "one by one" or "fused", over two groups."""
    net = model(dtype)
    groups = [{"params": list(net[0].parameters()), "lr": 1e-2}, {"params": list(net[2].parameters()), "lr": 1e-3}]
    optimizer = create_optimizer(groups, name, 1e-2, arguments)
    updater = Updater(optimizer, 3, 0.0)
    for step in range(steps):
        inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(step)).to(dtype)
        optimizer.zero_grad(set_to_none=True)
        updater.step_number = step
        if kind == "fused":
            with updater.fused():
                net(inputs).square().sum().backward()
            assert all(parameter.grad is None for parameter in net.parameters())
            continue
        net(inputs).square().sum().backward()
        if kind == "one by one":
            updater.step()
        else:
            optimizer.step()
    return dict(net.named_parameters()), optimizer


@pytest.mark.parametrize("kind", ["one by one", "fused"])
@pytest.mark.parametrize(
    ("name", "arguments"), [("AdamW", []), ("Adafactor", ADAFACTOR), ("SGDNesterov", []), ("Lion", [])]
)
def test_the_same_as_all_at_once(kind: str, name: str, arguments: list[str]) -> None:
    ours, theirs = trained(kind, name, arguments)[0], trained("at once", name, arguments)[0]
    assert_same(ours, theirs)
    assert any(not torch.equal(tensor, start) for tensor, start in zip(ours.values(), model().parameters()))


@pytest.mark.parametrize("size", [1e-3, 1.0, 50.0, float("nan"), float("inf")])
@pytest.mark.parametrize("joined", [False, True])
def test_clipping_is_torchs(joined: bool, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, but for the order in which the numbers of small weights are added up."""
    if not joined:
        monkeypatch.setattr(norms, "SMALL", 0)

    def weights() -> list[torch.nn.Parameter]:
        random = torch.Generator().manual_seed(0)
        made = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in ((4, 3), (7,), (2, 3, 1, 1))]
        for number, weight in enumerate(made[:2]):
            weight.grad = torch.randn(weight.shape, generator=random)
            if number == 0:
                weight.grad[0] *= size
        return made

    ours, theirs = weights(), weights()
    clip_gradients(ours, 1.0)
    torch.nn.utils.clip_grad_norm_(theirs, 1.0, foreach=True)
    for mine, other in zip(ours[:2], theirs):
        assert mine.grad is not None and other.grad is not None
        assert torch.allclose(mine.grad, other.grad, rtol=1e-6, atol=0, equal_nan=True)
        assert joined or torch.equal(mine.grad.nan_to_num(-7), other.grad.nan_to_num(-7))
    assert ours[2].grad is None
    clip_gradients(ours[2:], 1.0)


def test_small_steps_count_in_bf16() -> None:
    """A step of a hundredth of a bf16 place: rounded to the nearest nothing ever moves, at random it does."""

    def moved(kind: str) -> float:
        weight = nn.Parameter(torch.ones(2000, dtype=torch.bfloat16))
        optimizer = create_optimizer([{"params": [weight], "lr": 1e-4}], "SGD", 1e-4, [])
        updater = Updater(optimizer, 0, 0.0)
        for step in range(100):
            weight.grad = torch.full_like(weight, -1.0)
            updater.step_number = step
            updater.step() if kind == "at random" else optimizer.step()
        return weight.detach().float().mean().item() - 1.0

    assert moved("to the nearest") == 0.0
    assert moved("at random") == pytest.approx(0.01, rel=0.1)


def test_moments_of_bf16_weights_are_float32_and_stay_so() -> None:
    weights, optimizer = trained("fused", "AdamW", [], torch.bfloat16)
    kinds = {value.dtype for state in optimizer.state.values() for key, value in state.items() if key != "step"}
    assert kinds == {torch.float32} and {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    net = model(torch.bfloat16)
    groups = [{"params": list(net[0].parameters())}, {"params": list(net[2].parameters())}]
    fresh = create_optimizer(groups, "AdamW", 1e-2, [])
    load_optimizer(fresh, optimizer.state_dict())
    for ours, theirs in zip(fresh.state.values(), optimizer.state.values()):
        assert_same({k: v for k, v in ours.items() if k != "step"}, {k: v for k, v in theirs.items() if k != "step"})


def test_the_average_forgets_its_start_and_leaves_the_weights() -> None:
    weight = nn.Parameter(torch.zeros(3))
    average = Average({"w": weight}, 0.9)
    means = []
    for step in range(1, 200):
        with torch.no_grad():
            weight.fill_(1.0)
        average.update(step)
        means.append(float(average.tensors()["w"][0]))
    assert means[0] == pytest.approx(1 - 2 / 11) and means[-1] == pytest.approx(1.0) and sorted(means) == means
    with torch.no_grad():
        weight.fill_(5.0)
    with pytest.raises(KeyError), average.applied():
        assert weight[0].item() == pytest.approx(1.0)
        raise KeyError
    assert weight[0].item() == 5.0
    with pytest.raises(AtelierError, match="other weights"):
        average.load({})


def test_each_gradient_of_a_fused_step_is_clipped_by_itself() -> None:
    net = model()
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    updater = Updater(create_optimizer([{"params": list(net.parameters()), "lr": 1.0}], "SGD", 1.0, []), 0, 0.5)
    with updater.fused():
        (1e3 * sum(parameter.sum() for parameter in net.parameters())).backward()
    for name, parameter in net.named_parameters():
        assert float((parameter.detach() - before[name]).norm()) == pytest.approx(0.5, rel=1e-4)


def test_each_weight_and_each_step_are_rounded_by_numbers_of_their_own() -> None:
    """Were they the same ones, errors would add up in step."""
    weights = [nn.Parameter(torch.ones(500, dtype=torch.bfloat16)) for _ in range(2)]
    updater = Updater(create_optimizer([{"params": weights, "lr": 2.0**-9}], "SGD", 2.0**-9, []), 3, 0.0)
    seen = []
    for step in range(2):
        updater.step_number = step
        for weight in weights:
            weight.data.fill_(1.0)
            weight.grad = torch.full_like(weight, -1.0)
        updater.step()
        seen += [tuple(weight.tolist()) for weight in weights]
    assert len(set(seen)) == 4
    updater.step_number = 0
    weights[0].data.fill_(1.0)
    updater.step_one(weights[0])
    assert tuple(weights[0].tolist()) == seen[0]


# -- in runs -----------------------------------------------------------------------------------------------------------

WHOLE: dict[str, Any] = {"train_whole_model": True, "learning_rate": 1e-3, "train_text_encoder": True}


def unet_of(path: Path | None) -> dict[str, torch.Tensor]:
    assert path is not None
    return {name: tensor.detach().clone() for name, tensor in load_checkpoint(path).parts.denoiser.named_parameters()}


def test_a_fused_run_learns_the_same(pictures: Path, tmp_path: Path) -> None:
    asked = {**WHOLE, "max_grad_norm": 0.0}
    plain = run(tiny_job(pictures, **asked), tmp_path / "plain")
    fused = run(tiny_job(pictures, fused_backward_pass=True, **asked), tmp_path / "fused")
    assert_same(unet_of(fused.outcome.path), unet_of(plain.outcome.path))
    assert fused.record.values == plain.record.values


@pytest.mark.parametrize(
    "more",
    [{"full_bf16": True}, {"full_bf16": True, "fused_backward_pass": True, "optimizer_type": "Adafactor"},
     {"ema_decay": 0.8}, {"ema_decay": 0.8, "train_whole_model": False, "learning_rate": 1e-2}],
)  # fmt: skip
def test_it_resumes_to_the_same_bits(more: dict[str, Any], pictures: Path, tmp_path: Path) -> None:
    asked = {**WHOLE, "save_precision": "float", **more}
    straight = run(tiny_job(pictures, **asked), tmp_path / "straight")
    host, job = TinyHost(tmp_path / "halves"), tiny_job(pictures, **asked)

    def stop(step: int, control: Control) -> None:
        if step == 2:
            control.stop()

    half = run(job, tmp_path / "halves", stop, host)
    assert half.outcome.steps == 2
    rest = run(job, tmp_path / "halves", host=host)
    if asked["train_whole_model"]:
        assert_same(unet_of(rest.outcome.path), unet_of(straight.outcome.path))
    else:
        assert_same(rest.tensors, straight.tensors)


def test_bf16_weights_move_by_less_than_they_can_tell(pictures: Path, tmp_path: Path) -> None:
    """At a rate that rounding to the nearest loses altogether, most layers still learn."""
    asked = {**WHOLE, "learning_rate": 1e-6, "full_bf16": True, "save_precision": "float", "max_train_steps": 2}
    done = run(tiny_job(pictures, **asked), tmp_path / "run")
    base = {name: tensor.detach().bfloat16().float() for name, tensor in done.host.parts.denoiser.named_parameters()}
    learnt = unet_of(done.outcome.path)
    moved = sum(not torch.equal(learnt[name], base[name]) for name in base)
    assert moved > len(base) / 4
    assert all(torch.equal(tensor, tensor.bfloat16().float()) for tensor in learnt.values())


def test_the_average_beside_the_weights(pictures: Path, tmp_path: Path) -> None:
    plain = run(tiny_job(pictures, **WHOLE), tmp_path / "plain")
    asked = {"ema_decay": 0.5, "ema_save": "beside", "save_every_n_steps": 1, "save_last_n_steps": 1}
    done = run(tiny_job(pictures, load_when_done=True, **asked, **WHOLE), tmp_path / "both")
    names = sorted(path.stem for path in done.host.folders.checkpoints.iterdir())
    assert names == ["tiny", "tiny-ema", "tiny-step00000003", "tiny-step00000003-ema"]
    assert done.outcome.path is not None and done.outcome.path.stem == "tiny"
    assert done.host.current is not None and done.host.current.path.stem == "tiny"
    weights, average = unet_of(done.outcome.path), unet_of(done.outcome.path.with_stem("tiny-ema"))
    assert_same(weights, unet_of(plain.outcome.path))
    assert any(not torch.equal(weights[name], average[name]) for name in weights)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"gradient_accumulation_steps": 2}, "accumulated over several batches"), ({}, None)],
)
def test_where_it_cannot_be_fused_it_is_told(
    changes: dict[str, Any], words: str | None, pictures: Path, tmp_path: Path
) -> None:
    done = run(tiny_job(pictures, fused_backward_pass=True, **changes), tmp_path / "run")
    assert done.outcome.state == "done"
    assert done.record.told("Fused backward pass (fused_backward_pass) is off") == (words is not None)
    assert words is None or done.record.told(words)


@pytest.mark.parametrize("key", ["fused_backward_pass", "full_bf16"])
def test_an_optimiser_that_needs_all_weights_is_refused(key: str, pictures: Path, tmp_path: Path) -> None:
    asked = {**WHOLE, key: True, "optimizer_type": "Prodigy"}
    with pytest.raises(AtelierError, match=f"{key}.*Prodigy"):
        run(tiny_job(pictures, **asked), tmp_path / "run")


def test_an_optimiser_that_is_not_there_is_said_before_anything(pictures: Path, tmp_path: Path) -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(AtelierError, match="AdamW8bit needs the package bitsandbytes.*pip install"):
            run(tiny_job(pictures, optimizer_type="AdamW8bit", **WHOLE), tmp_path / "run")
