"""Pictures and validation keep nothing for a backward pass, though a WebUI's turns have gradients on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.hosts.contract import SampleRequest
from atelier.models.family import Parts
from atelier.training.device.turns import LongTurn
from tests.support.training_fakes import TinyHost, WatchedLease, run, tiny_job, write_pictures

STEPS = 3


class Lease(WatchedLease):
    """Notes of every forward pass of the UNet that it lent whether its result has a history."""

    _host: Host

    def __enter__(self) -> Parts:
        parts = super().__enter__()
        parts.denoiser.register_forward_hook(lambda module, given, found: self._host.passes.append(_has_history(found)))
        return parts


class Host(TinyHost):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.passes: list[bool] = []

    def usual_request(self) -> SampleRequest:
        return SampleRequest("", steps=4)

    def sample(self, request: SampleRequest) -> None:
        """Has no sampler: ours draws the class pictures."""

    def lease(self, parts: frozenset[str]) -> Lease:
        return Lease(self, parts)


def _has_history(found: Any) -> bool:
    return bool(found[0].requires_grad)


def trained(tmp_path: Path, **changes: Any) -> Host:
    host = Host(tmp_path / "host")
    job = tiny_job(write_pictures(tmp_path / "pictures"), max_train_steps=STEPS, **changes)
    run(job, tmp_path, host=host)
    return host


def test_pictures(tmp_path: Path) -> None:
    host = trained(tmp_path, sample_at_first=True, sample_prompts="a zwx --s 4 --w 32 --h 32")
    assert host.passes == [False] * 4 + [True] * STEPS


def test_validation(tmp_path: Path) -> None:
    host = trained(tmp_path, validation_split=0.25, validate_every_n_steps=1)
    assert host.passes.count(True) == STEPS and host.passes.count(False) >= 5 * STEPS


@pytest.mark.slow
def test_class_pictures(tmp_path: Path) -> None:
    host = trained(tmp_path, class_prompt=["a thing"], num_class_images=1)
    assert list((host.folders.cache / "class_pictures").rglob("*.png"))
    assert host.passes == [False] * 4 + [True] * STEPS


def test_breathing(tmp_path: Path) -> None:
    lease = Host(tmp_path).lease(frozenset(("unet",)))
    for learning in (False, True):
        with lease, torch.set_grad_enabled(True), LongTurn(lease) as turn:
            with torch.set_grad_enabled(learning):
                turn.breathe()
                assert torch.is_grad_enabled() is learning
            turn.breathe()
            assert torch.is_grad_enabled()
