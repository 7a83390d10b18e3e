"""What a step does after the gradients are there: the optimiser, its schedule, the loss scaler, the moving average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from atelier.jobs.control import Control
from atelier.training.device.plan import Plan
from atelier.training.device.processes import borrowed_accelerator
from atelier.training.optim.ema import Average
from atelier.training.optim.stepper import Stepper
from atelier.training.run import prepare
from atelier.training.trained.networks import build_trainable
from tests.support.training_fakes import MemoryRecord, TinyHost, assert_same, tiny_job, write_pictures

SCALER: Any = getattr(getattr(torch, "amp", None), "GradScaler", None)
needs_scaler = pytest.mark.skipif(SCALER is None, reason="this torch has no loss scaler on a processor")
SCALE = 1024.0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 2)


@dataclass
class Begun:
    """A run's stepper, about to take its first step, and the accelerator that takes its gradients."""

    stepper: Stepper
    accelerator: Accelerator

    def take(self, step: int, size: float = 1.0) -> None:
        """A step with random gradients of this size, through the loss scaler if there is one."""
        random = torch.Generator().manual_seed(step)
        with self.stepper.begin(step):
            products = [(p * torch.randn(p.shape, generator=random) * size).sum() for p in self.stepper.parameters]
            self.accelerator.backward(torch.stack(products).sum())
            self.stepper.finish(step)

    @property
    def weights(self) -> Tensor:
        return torch.cat([parameter.detach().flatten().clone() for parameter in self.stepper.parameters])

    @torch.no_grad()
    def put(self, weights: Tensor) -> None:
        """The inverse of `weights`."""
        for parameter, part in zip(self.stepper.parameters, self.split(weights)):
            parameter.copy_(part.view(parameter.shape))

    def split(self, weights: Tensor) -> tuple[Tensor, ...]:
        return weights.split([parameter.numel() for parameter in self.stepper.parameters])

    @property
    def average(self) -> dict[str, Tensor]:
        assert self.stepper.average is not None
        return self.stepper.average.tensors()


@contextmanager
def begun(pictures: Path, folder: Path, scaled: bool = False, **settings: Any) -> Iterator[Begun]:
    """`scaled`: with a loss scaler, as fp16 has on a GPU."""
    asked = {"network_train_unet_only": True, "lr_scheduler": "linear", "max_grad_norm": 0.0, **settings}
    host = TinyHost(folder)
    context = prepare(tiny_job(pictures, max_train_steps=8, **asked), host, MemoryRecord(folder / "record"), Control())
    network = build_trainable(context, host.parts)
    with torch.enable_grad(), borrowed_accelerator(torch.device("cpu"), "no") as accelerator:
        if scaled:
            accelerator.scaler, accelerator.native_amp = SCALER("cpu", init_scale=SCALE), True
            accelerator.state._mixed_precision = "fp16"
        yield Begun(Stepper(context, network, Plan("no"), accelerator), accelerator)


# -- the loss scaler ---------------------------------------------------------------------------------------------------


@needs_scaler
def test_a_step_that_the_scaler_leaves_out_changes_no_weight(pictures: Path, tmp_path: Path) -> None:
    """Gradients that overflow leave weights and moments alone, and halve the scale; the schedule counts steps."""
    with begun(pictures, tmp_path, scaled=True) as run:
        run.take(0)
        before, rates = run.weights, run.stepper.rates()
        moments = [state["exp_avg"].clone() for state in run.stepper.optimizer.state.values()]
        run.take(1, size=float("inf"))
        assert torch.equal(run.weights, before) and run.stepper.rates()["unet"] < rates["unet"]
        assert all(torch.equal(a, b["exp_avg"]) for a, b in zip(moments, run.stepper.optimizer.state.values()))
        assert run.accelerator.scaler.get_scale() == SCALE / 2
        run.take(2)
        assert not torch.equal(run.weights, before) and run.accelerator.scaler.get_scale() == SCALE / 2


@needs_scaler
@pytest.mark.parametrize("norm", [0.0, 1.0])
def test_a_scaled_loss_gives_the_same_step(norm: float, pictures: Path, tmp_path: Path) -> None:
    """Gradients have their own size again before they are clipped. The scale is a power of two, and rounds nothing."""
    asked = {"max_grad_norm": norm, "optimizer_type": "SGD"}
    found = []
    for scaled in (False, True):
        with begun(pictures, tmp_path / str(scaled), scaled=scaled, **asked) as run:
            before = run.weights
            run.take(0, size=10.0)
            found.append(run.weights - before)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)
    assert float(found[0].norm()) > 0 and (norm == 0.0 or float(found[0].norm()) == pytest.approx(1e-2, rel=1e-3))


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [False, pytest.param(True, marks=needs_scaler)])
def test_it_goes_on_from_what_was_captured(scaled: bool, pictures: Path, tmp_path: Path) -> None:
    """Optimiser, schedule, average and scaler: to the bits of a stepper that went straight on."""
    with begun(pictures, tmp_path / "first", scaled, ema_decay=0.9) as first:
        first.take(0)
        first.take(1)
        if scaled:
            first.take(2, size=float("inf"))
        tensors: dict[str, Tensor] = {}
        values = first.stepper.capture(tensors)
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        kept, rates = first.weights, first.stepper.rates()
        first.take(3)
    with begun(pictures, tmp_path / "second", scaled, ema_decay=0.9) as second:
        second.put(kept)
        second.stepper.restore(values, tensors)
        assert second.stepper.rates() == rates
        assert not scaled or second.accelerator.scaler.get_scale() == SCALE / 2
        second.take(3)
        assert second.stepper.rates() == first.stepper.rates() != rates
    assert torch.equal(second.weights, first.weights) and not torch.equal(second.weights, kept)
    assert_same(second.average, first.average)
    assert not scaled or second.accelerator.scaler.state_dict() == first.accelerator.scaler.state_dict()


# -- the moving average ------------------------------------------------------------------------------------------------


def test_the_average_of_a_run_is_the_formulas(pictures: Path, tmp_path: Path) -> None:
    """mean <- d mean + (1 - d) weight after step n, counted from 1, with d = min(decay, (1 + n) / (10 + n))."""
    with begun(pictures, tmp_path, ema_decay=0.3) as run:
        mean = run.weights.double()
        decays = [min(0.3, (1 + number) / (10 + number)) for number in range(1, 6)]
        for step, decay in enumerate(decays):
            run.take(step)
            mean = decay * mean + (1 - decay) * run.weights.double()
        assert decays[0] < 0.3 == decays[-1]
        found = sorted(tensor.double().flatten().tolist() for tensor in run.average.values())
        wanted = sorted(part.tolist() for part in run.split(mean))
        assert [each for part in found for each in part] == pytest.approx(
            [each for part in wanted for each in part], rel=1e-5, abs=1e-7
        )


@pytest.mark.parametrize("every", [1, 4])
def test_the_average_is_kohyas_formula(every: int) -> None:
    """With as many factors d as there were steps since it last looked. Weights that are no numbers are left out."""
    weight = nn.Parameter(torch.zeros(3))
    average = Average({"w": weight}, 0.5)
    average.every = every  # as EVERY_ON_GPU is there
    mean = 0.0
    for step in range(1, 25):
        spoilt = step == 16
        weight.data.fill_(float("nan") if spoilt else step)
        average.update(step)
        if step % every == 0 and not spoilt:
            decay = min(0.5, (1 + step) / (10 + step)) ** every
            mean = decay * mean + (1 - decay) * step
        assert average.tensors()["w"].tolist() == pytest.approx([mean] * 3)
    assert step > 8 and mean < 24


@pytest.mark.parametrize("where", ["weights", "average"])
def test_weights_and_average_are_sound_while_they_are_numbers(where: str, pictures: Path, tmp_path: Path) -> None:
    with begun(pictures, tmp_path, ema_decay=0.9) as run:
        assert run.stepper.sound
        spoilt = run.stepper.parameters[1].data if where == "weights" else next(iter(run.average.values()))
        spoilt.view(-1)[-1] = float("nan")
        assert not run.stepper.sound


def test_no_gradient_outlives_its_step(pictures: Path, tmp_path: Path) -> None:
    with begun(pictures, tmp_path) as run:
        for parameter in run.stepper.parameters:
            parameter.grad = torch.ones_like(parameter)
        with run.stepper.begin(0):
            assert all(parameter.grad is None for parameter in run.stepper.parameters)
        run.take(0)
        assert all(parameter.grad is None for parameter in [*run.stepper.parameters, *run.stepper.stepped])
