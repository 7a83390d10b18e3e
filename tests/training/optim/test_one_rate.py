"""Optimisers that need one learning rate for all weights, by whatever name: a sentence before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.training.optim.optimizers import create_optimizer
from tests.support.training_fakes import run, tiny_job, write_pictures

ONE = (
    "Prodigy", "prodigyopt.Prodigy", "pytorch_optimizer.Prodigy", "DAdaptation", "DAdaptAdam", "DAdaptAdamPreprint",
    "DAdaptAdaGrad", "DAdaptAdan", "DAdaptAdanIP", "DAdaptLion", "DAdaptSGD", "pytorch_optimizer.DAdaptAdam",
)  # fmt: skip
ANY = ("AdamW", "Lion", "SGDNesterov", "Adafactor", "RAdamScheduleFree", "AdamWScheduleFree", "torch.optim.Adam",
       "torch.optim.Rprop", "NAdam", "pytorch_optimizer.CAME")  # fmt: skip


def two(name: str, rates: tuple[float, float] = (1.0, 0.5), arguments: tuple[str, ...] = ()) -> torch.optim.Optimizer:
    """The optimizer over two weights with these learning rates."""
    for package in ("prodigyopt", "pytorch_optimizer", "schedulefree"):
        pytest.importorskip(package)
    weights = [torch.nn.Parameter(torch.ones(3, 3)) for _ in rates]
    groups: list[dict[str, Any]] = [
        {"params": [weight], "lr": rate, "name": part}
        for weight, rate, part in zip(weights, rates, ("text_encoder", "unet"))
    ]
    return create_optimizer(groups, name, 1.0, arguments)


@pytest.mark.parametrize("name", ONE)
def test_two_rates_are_refused(name: str) -> None:
    with pytest.raises(AtelierError) as caught:
        two(name)
    sentence = str(caught.value)
    assert sentence.startswith(f"Optimizer (optimizer_type): {name} needs one learning rate for all weights")
    assert "this run has 2: 1 for text_encoder, 0.5 for unet." in sentence
    assert "Give UNet learning rate (unet_lr) and Text encoder learning rate (text_encoder_lr) the same" in sentence
    assert len(two(name, (1.0, 1.0)).param_groups) == 2


@pytest.mark.parametrize("name", ANY)
def test_others_take_two_rates(name: str) -> None:
    rates = [
        group["lr"]
        for group in two(name, arguments=("relative_step=False",) if name == "Adafactor" else ()).param_groups
    ]
    assert rates == [1.0, 0.5]


def test_the_trial_leaves_torchs_random_numbers_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with pytest.raises(AtelierError):
        two("Prodigy")
    two("Lion")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"unet_lr": 1.0, "text_encoder_lr": [0.5]}, r"0\.5 for text_encoder, 1 for unet\. Give UNet"),
        ({"network_args": ["loraplus_lr_ratio=4"]}, r"has 2: .*4 for text_encoder up, unet up\..*Leave loraplus"),
        ({"network_train_unet_only": True, "network_args": ["down_lr_weight=" + ",".join(["0.5"] * 12)]},
         "has 2: .*Leave down_lr_weight"),
        ({"train_whole_model": True, "train_text_encoder": True, "learning_rate_te": 0.5}, r"\(learning_rate_te2\)"),
    ],
)  # fmt: skip
def test_a_run_says_it_before_its_first_step(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    pytest.importorskip("prodigyopt")
    job = tiny_job(
        write_pictures(tmp_path / "pictures", 1), optimizer_type="Prodigy", learning_rate=1.0, max_train_steps=2,
        **settings,
    )  # fmt: skip
    with pytest.raises(AtelierError, match=f"Prodigy needs one learning rate.*{words}"):
        run(job, tmp_path / "run")
