"""Small weights stepped as one tensor: what is learnt, and what is kept of it, is that of the weights by themselves."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from atelier.training.optim import flat_parameters as joined_module
from atelier.training.optim import stepper as stepper_module
from atelier.training.optim.flat_parameters import FlatParameters
from atelier.training.optim.optimizers import by_itself, create_optimizer
from atelier.training.session import Session
from tests.support.training_fakes import assert_same, run, tiny_job, write_pictures

SHAPES = ((4, 3), (300, 200), (7,), (2, 3, 1, 1), (5,))
"""One of them is too large to be joined; the last two are a group of their own, with half the rate."""


def weights() -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES]


def groups(of: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": of[:3], "lr": 0.1, "name": "first"}, {"params": of[3:], "lr": 0.05, "name": "second"}]


def give_gradients(of: list[nn.Parameter], step: int) -> None:
    random = torch.Generator().manual_seed(100 + step)
    for weight in of:
        weight.grad = torch.randn(weight.shape, generator=random)


class Ours:
    """An optimiser over joined weights."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.weights = weights()
        self.joined = FlatParameters(groups(self.weights))
        self.optimizer = create_optimizer(self.joined.groups, name, 0.1, arguments, one_kernel=True)

    def step(self, number: int) -> None:
        give_gradients(self.weights, number)
        self.joined.gather()
        self.optimizer.step()


class Plain:
    """The same over the weights as they are."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.weights = weights()
        self.optimizer = create_optimizer(groups(self.weights), name, 0.1, arguments, one_kernel=True)

    def step(self, number: int) -> None:
        give_gradients(self.weights, number)
        self.optimizer.step()


def assert_near(ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, rtol=1e-6, atol=1e-7)


KINDS: list[tuple[str, list[str]]] = [
    ("AdamW", []), ("AdamW", ["amsgrad=True", "foreach=True"]), ("Adam", ["weight_decay=0.1"]), ("SGDNesterov", []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_the_same_steps(name: str, arguments: list[str]) -> None:
    ours, plain = Ours(name, arguments), Plain(name, arguments)
    assert [len(group["params"]) for group in ours.optimizer.param_groups] == [2, 1]
    for step in range(4):
        ours.step(step)
        plain.step(step)
        assert_near(ours.weights, plain.weights)
    assert not torch.allclose(ours.weights[0], weights()[0])


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_a_state_is_that_of_the_weights_by_themselves(name: str, arguments: list[str]) -> None:
    """Either goes on from what the other has kept, as a run does that moves to another device."""
    ours, plain = Ours(name, arguments), Plain(name, arguments)
    for step in range(2):
        ours.step(step)
        plain.step(step)
    kept = copy.deepcopy(ours.joined.split(ours.optimizer.state_dict()))
    theirs = copy.deepcopy(plain.optimizer.state_dict())
    assert kept["state"].keys() == theirs["state"].keys()
    assert [group["params"] for group in kept["param_groups"]] == [[0, 1, 2], [3, 4]]
    for number, values in theirs["state"].items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                assert kept["state"][number][key].shape == value.shape, key
    turned_to_ours, turned_to_plain = Ours(name, arguments), Plain(name, arguments)
    turned_to_ours.optimizer.load_state_dict(turned_to_ours.joined.join(theirs))
    turned_to_plain.optimizer.load_state_dict(kept)
    with torch.no_grad():
        for turned in (turned_to_ours, turned_to_plain):
            for weight, other in zip(turned.weights, plain.weights):
                weight.copy_(other)
    for each in (plain, turned_to_ours, turned_to_plain):
        each.step(2)
    assert_near(turned_to_ours.weights, plain.weights)
    assert_near(turned_to_plain.weights, plain.weights)


@pytest.mark.slow
def test_a_run_learns_the_same_and_resumes_with_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tiny_job(write_pictures(tmp_path / "pictures"), max_train_steps=6, network_train_unet_only=True)
    stepped: list[int] = []
    enter = Session.enter

    def watched(session: Session, *given: Any) -> None:
        enter(session, *given)
        stepped.append(len(session.learner.stepper.stepped))
        assert len(session.learner.stepper.parameters) > 10

    monkeypatch.setattr(Session, "enter", watched)
    joined = run(job, tmp_path / "joined")
    first = run(job, tmp_path / "apart", lambda n, c: c.stop() if n == 3 else None)
    monkeypatch.setattr(stepper_module, "by_itself", lambda name: False)
    plain = run(job, tmp_path / "plain")
    turned = run(job, tmp_path / "apart", record=first.record)
    assert stepped[:2] == [1, 1] and min(stepped[2:]) > 10
    for name, tensor in plain.tensors.items():
        assert torch.allclose(joined.tensors[name], tensor, atol=1e-5), name
        assert torch.allclose(turned.tensors[name], tensor, atol=1e-5), name


@pytest.mark.parametrize(
    "settings",
    [
        {"network_args": ["module_dropout=0.5"]},
        {"network_train_unet_only": False, "text_encoder_lr": [1e-3]},
        {"optimizer_type": "Adafactor"},
        {"train_whole_model": True},
    ],
    ids=["layers left out at random", "text encoder", "Adafactor", "whole model"],
)
def test_what_may_be_without_gradients_or_wants_its_shape_stays_apart(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(groups: Any) -> FlatParameters:
        raise AssertionError("joined")

    monkeypatch.setattr(stepper_module, "FlatParameters", refuse)
    asked = {"max_train_steps": 2, "network_train_unet_only": True, **settings}
    done = run(tiny_job(write_pictures(tmp_path / "pictures"), **asked), tmp_path)
    assert done.outcome.state == "done"


def test_only_torchs_own_by_name() -> None:
    assert [by_itself(name) for name in ("AdamW", "Adam", "SGDNesterov", "Adafactor")] == [True, True, True, False]


def test_weights_are_windows_that_are_written_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_module, "SMALL", 0)
    assert FlatParameters(groups(weights())).weights != [] and len(FlatParameters(groups(weights())).weights) == len(
        SHAPES
    )
    monkeypatch.setattr(joined_module, "SMALL", 10**6)
    ours = weights()
    before = [weight.detach().clone() for weight in ours]
    joined = FlatParameters(groups(ours))
    assert len(joined.weights) == 2
    assert_same(dict(enumerate(map(torch.detach, ours))), dict(enumerate(before)))  # type: ignore[arg-type]
    with torch.no_grad():
        joined.weights[0].zero_()
    assert all(not weight.any() for weight in ours[:3]) and ours[3].any()
    joined.gather()
    assert joined.weights[0].grad is None  # where none has a gradient
    ours[2].grad = torch.ones(7)
    joined.gather()
    assert joined.weights[0].grad is not None and joined.weights[0].grad.sum() == 7
