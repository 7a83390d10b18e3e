"""Optimisers by kohya's names, and what is said of arguments that they do not take."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.config.packages import release
from atelier.jobs.control import Control
from atelier.training.optim.optimizers import create_optimizer
from atelier.training.run import prepare
from tests.support.training_fakes import MemoryRecord, TinyHost, tiny_job, write_pictures


def made(name: str, *arguments: str) -> torch.optim.Optimizer:
    weight = torch.nn.Parameter(torch.ones(3, 3))
    return create_optimizer([{"params": [weight], "lr": 1.0}], name, 1.0, arguments)


NAMES = ("DAdaptation", "DAdaptAdam", "DAdaptAdaGrad", "DAdaptAdan", "DAdaptLion", "DAdaptSGD")


@pytest.mark.parametrize("name", NAMES)
def test_kohyas_arguments_of_d_adaptation_take_effect(name: str) -> None:
    pytest.importorskip("pytorch_optimizer")
    defaults = made(name, "decouple=True", "weight_decay=0.1", "log_every=10").defaults
    assert defaults["weight_decay"] == 0.1
    assert (defaults.get("weight_decouple") or defaults.get("decouple")) is True


def test_an_argument_that_would_be_passed_over_is_refused() -> None:
    pytest.importorskip("pytorch_optimizer")
    assert made("Lion", "betas=0.9,0.95").defaults["betas"] == (0.9, 0.95)
    with pytest.raises(AtelierError, match=r"Lion has no argument weight_decoy\. It has .*weight_decay"):
        made("Lion", "weight_decoy=1")
    with pytest.raises(AtelierError, match="has no argument bogus"):
        made("pytorch_optimizer.DAdaptAdam", "bogus=1")
    assert made("DAdaptAdam", "use_bias_correction=True").defaults["bias_correction"] is True


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("AdamW", ["nonsense=3"], "does not accept these arguments"),
        ("AdamW", ["betas=0.9"], "does not accept these arguments"),
        ("AdamW", ["weight_decay"], "must be key=value"),
        ("lr_scheduler", [], "is 'lr_scheduler'; it can be"),
        ("Adamw9", [], "is 'Adamw9'; it can be"),
        ("torch.optim.Nope", [], "has no class Nope"),
        ("no_such_package.Class", [], "pip install no_such_package"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, arguments: list[str], words: str) -> None:
    with pytest.raises(AtelierError, match=words):
        made(name, *arguments)


def test_many_small_weights_are_stepped_in_one_kernel_unless_told_how() -> None:
    def fused(name: str, *arguments: str, one_kernel: bool = True) -> bool:
        groups = [{"params": [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)], "lr": 0.1}]
        return bool(create_optimizer(groups, name, 0.1, arguments, one_kernel).param_groups[0].get("fused"))

    assert fused("AdamW") == (release(torch.__version__) >= (2, 4))
    assert not fused("AdamW", one_kernel=False) and not fused("AdamW", "foreach=True") and not fused("SGDNesterov")


def test_an_optimiser_that_is_not_installed_is_said_before_a_picture_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where bitsandbytes is there: it is hidden here."""
    for module in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    host, job = TinyHost(tmp_path), tiny_job(write_pictures(tmp_path / "pictures", 1), optimizer_type="AdamW8bit")
    with pytest.raises(AtelierError, match="AdamW8bit needs the package bitsandbytes.*pip install bitsandbytes"):
        prepare(job, host, MemoryRecord(tmp_path / "record"), Control())
    assert host.turns == 0 and host.leases == []


def test_an_optimiser_that_is_installed_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for bitsandbytes: found under kohya's name in any case, with what that implies and what is asked."""

    class SGD8bit(torch.optim.SGD):
        pass

    stand_in, optim = ModuleType("bitsandbytes"), ModuleType("bitsandbytes.optim")
    optim.SGD8bit = SGD8bit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", stand_in)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", optim)
    found = made("sgdNesterov8bit", "weight_decay=0.1")
    assert type(found) is SGD8bit
    used = {key: found.param_groups[0][key] for key in ("lr", "nesterov", "momentum", "weight_decay")}
    assert used == {"lr": 1.0, "nesterov": True, "momentum": 0.9, "weight_decay": 0.1}
