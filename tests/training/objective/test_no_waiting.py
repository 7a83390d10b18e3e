"""A step on a GPU is only queued up: nothing in it waits for a value, or for what was queued before.

The steps are real ones, on tensors that have shapes and no values (meta): reading one is an error, as is a copy to the
device that would wait there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atelier.adapters.layers import attachment
from atelier.config.job import JobConfig
from atelier.hosts.contract import Lease
from atelier.jobs.control import Control
from atelier.models.family import Parts
from atelier.training.memory import for_run as memory_run
from atelier.training.optim.norms import all_finite
from atelier.training.run import PARTS, prepare
from atelier.training.session import Session
from tests.support.models_tiny import tiny_parts as parts_of
from tests.support.training_fakes import MemoryRecord, TinyHost, predicts_nothing, tiny_job, write_pictures

DEVICE = torch.device("meta")
PLAIN: dict[str, Any] = {
    "cache_latents_to_disk": True, "max_train_steps": 12, "resolution": "64", "min_bucket_reso": 64,
    "max_bucket_reso": 64,
}  # fmt: skip


class Copies(TorchDispatchMode):
    """While it is entered, notes what copies from the processor to the device, and whether that waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.queued = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        crosses = any(leaf.device.type == "cpu" for leaf in given) and any(leaf.device == DEVICE for leaf in made)
        if crosses and (kwargs or {}).get("non_blocking"):
            self.queued += 1
        elif crosses:
            self.waits.append(f"{func} of {[tuple(leaf.shape) for leaf in given]}")
        return out


class LentWithoutValues:
    """A lease of a model on the device."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def __enter__(self) -> Parts:
        return self._parts

    def __exit__(self, *error: object) -> None:
        return None

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()


@contextmanager
def session(job: JobConfig, host: TinyHost, folder: Path, lease: Any) -> Iterator[Session]:
    context = prepare(job, host, MemoryRecord(folder), Control())
    with torch.enable_grad(), ExitStack() as stack:
        begun = Session(context, lambda state: None)
        begun.enter(stack, lease, None)
        yield begun


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("sd1", {"network_train_unet_only": True}),
        ("sd1", {"train_batch_size": 4, "noise_offset": 0.1, "ip_noise_gamma": 0.1, "min_snr_gamma": 5.0}),
        ("sd2", {"loss_type": "huber", "network_dropout": 0.1, "gradient_accumulation_steps": 2}),
        ("sdxl", {"gradient_checkpointing": True, "network_train_unet_only": True}),
        ("sdxl", {"multires_noise_iterations": 3, "scale_weight_norms": 1.0}),
    ],
)
def test_a_step_waits_for_nothing(
    family: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_run, "remembering", predicts_nothing)
    # torch has no autocast on such a device to ask about.
    monkeypatch.setattr(attachment, "_as_autocast_will", lambda x: x)
    host = TinyHost(tmp_path, parts_of(family))
    pictures = write_pictures(tmp_path / "pictures", settings.get("train_batch_size", 1), side=64)
    job = tiny_job(pictures, **{**PLAIN, **settings})
    with session(job, host, tmp_path / "first", host.lease(PARTS)) as begun:
        begun.take_step()  # every picture's latents are then cached
    for module in host.parts.modules:
        module.to(DEVICE)
    lease: Lease = LentWithoutValues(host.parts)  # type: ignore[assignment]
    with session(job, host, tmp_path / "second", lease) as begun:
        assert begun.learner.device == DEVICE
        begun.take_step()
        with Copies() as copies:
            begun.take_step()
        assert begun.loss.device == DEVICE
    assert copies.queued and not copies.waits


def test_reading_a_value_there_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        torch.zeros(1, device=DEVICE).item()
    with Copies() as copies:
        torch.zeros(2).to(DEVICE)
    assert len(copies.waits) == 1 and copies.queued == 0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_all_finite_sees_one_wrong_number(wrong: float) -> None:
    tensors = [torch.zeros(3), torch.zeros(2, 2, requires_grad=True)]
    assert all_finite(tensors) and all_finite([])
    assert not all_finite([*tensors, torch.tensor([0.0, wrong])])
