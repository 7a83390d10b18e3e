"""A host, a record and pictures small enough to train on in a test, and a look at what a run must leave as it was."""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from atelier.adapters.files.kohya_file import read_lora
from atelier.config.job import JobConfig, job_from_settings
from atelier.config.settings.schema import Settings
from atelier.hosts.embedded.host import EmbeddedHost, LoadedModel
from atelier.hosts.embedded.lease import EmbeddedLease
from atelier.jobs.control import Control
from atelier.models.assets import load_tokenizers, released_config
from atelier.models.family import Parts
from atelier.models.registry import family_named
from atelier.training import batch_losses as losses_module
from atelier.training.memory import for_run as memory_run
from atelier.training.memory.prediction import Prediction
from atelier.training.progress import last_good as divergence
from atelier.training.progress import monitor
from atelier.training.run import Outcome, train

torch.set_num_threads(1)
SIDE = 32
"""Pixels of a picture's side: latents of 4 by 4."""


@functools.lru_cache(maxsize=1)
def _original() -> Parts:
    unet = released_config("sd1", "unet")
    unet.update(
        block_out_channels=[16, 32], down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"], layers_per_block=1, cross_attention_dim=32,
        attention_head_dim=4, norm_num_groups=8, sample_size=SIDE // 8,
    )  # fmt: skip
    vae = released_config("sd1", "vae")
    vae.update(block_out_channels=[8] * 4, norm_num_groups=4, layers_per_block=1)
    text = released_config("sd1", "text_encoder")
    text.update(hidden_size=32, intermediate_size=48, num_attention_heads=2, num_hidden_layers=2, projection_dim=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules: list[Any] = [
            UNet2DConditionModel.from_config(unet),
            CLIPTextModel(CLIPTextConfig(**text)),
            AutoencoderKL.from_config(vae),
        ]
        with torch.no_grad():
            for module in modules:
                for parameter in module.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.02)
                module.requires_grad_(False).eval()
    return Parts(family_named("sd1"), modules[0], [modules[1]], load_tokenizers("sd1"), modules[2])


def tiny_parts(prediction_type: str = "epsilon") -> Parts:
    """A model of SD1's kind with two levels and random weights, its own to change."""
    parts = _original()
    return replace(
        parts,
        denoiser=copy.deepcopy(parts.denoiser),
        text_encoders=[copy.deepcopy(parts.text_encoders[0])],
        vae=copy.deepcopy(parts.vae),
        prediction_type=prediction_type,
    )


class TinyHost(EmbeddedHost):
    """The embedded host with a tiny model in memory that lies on no disk."""

    def __init__(self, root: Path, parts: Parts | None = None) -> None:
        super().__init__(root, device="cpu", demo_base=None)
        self.published: list[Path] = []
        self.turns = 0
        self.on_turn: Callable[[int], None] = lambda number: None
        """Called with the number of each turn, from 1, before it is entered."""
        self.put(parts or tiny_parts())

    def put(self, parts: Parts, name: str = "tiny") -> None:
        """Has another model loaded, as `load` does once it has read one."""
        with self.queue:
            for lease in self.leases:
                lease.let_go()
            path = self.folders.checkpoints / name
            self.current = LoadedModel(name, path, f"identity of {name}", parts, SIDE)
            self.generator.forget_loras()

    @property
    def parts(self) -> Parts:
        assert self.current is not None
        return self.current.parts

    def lease(self, parts: frozenset[str]) -> EmbeddedLease:
        return WatchedLease(self, parts)

    def publish_lora(self, path: Path) -> None:
        self.published.append(path)


class WatchedLease(EmbeddedLease):
    """A lease that tells its host of every turn, and has gradients on in it, as those of the WebUIs have."""

    _host: TinyHost

    @contextmanager
    def turn(self) -> Iterator[None]:
        self._host.turns += 1
        self._host.on_turn(self._host.turns)
        with super().turn(), torch.inference_mode(False), torch.enable_grad():
            yield


class MemoryRecord:
    """Keeps in memory what a run tells, and lets a test act after a step."""

    def __init__(self, folder: Path, on_step: Callable[[int], None] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.on_step = on_step
        self.on_status: dict[str, Callable[[], None]] = {}
        self.statuses: list[tuple[str, str]] = []
        self.messages: list[tuple[str, str]] = []
        self.activities: list[tuple[str, int | None, int | None]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.rows: list[tuple[int, float, dict[str, float]]] = []
        self.speeds: list[dict[str, Any]] = []
        self.pictures: list[tuple[int, int, str, Image.Image]] = []
        self.saves: list[tuple[Path, int, int, str]] = []

    def status(self, state: str, message: str = "") -> None:
        self.statuses.append((state, message))
        self.on_status.get(state, lambda: None)()

    def event(self, kind: str, **data: Any) -> None:
        self.events.append((kind, data))

    def activity(self, text: str = "", done: int | None = None, total: int | None = None) -> None:
        self.activities.append((text, done, total))

    def message(self, text: str, level: str = "info") -> None:
        self.messages.append((level, text))

    def progress(self, *values: Any, **named: Any) -> None:
        names = ("step", "total", "epoch", "epochs", "seconds_per_step", "eta", "memory")
        self.speeds.append({**dict(zip(names, values)), **named})

    def losses(self, rows: Sequence[tuple[int, float, Mapping[str, float]]]) -> None:
        for step, loss, rates in rows:
            self.rows = [row for row in self.rows if row[0] < step] + [(step, loss, dict(rates))]
            if self.on_step is not None:
                self.on_step(step)

    def validation(self, step: int, loss: float) -> None:
        self.event("validation", step=step, loss=loss)

    def sample(self, step: int, index: int, prompt: str, image: Image.Image) -> None:
        self.pictures.append((step, index, prompt, image))

    def saved(self, path: Path, step: int, epoch: int, kind: str) -> None:
        self.saves.append((path, step, epoch, kind))

    def saved_files(self) -> list[tuple[Path, int, int, str]]:
        return list(self.saves)

    def log(self, text: str) -> None:
        self.messages.append(("log", text))

    @property
    def values(self) -> list[float]:
        """The losses in the order of their steps."""
        return [loss for _, loss, _ in self.rows]

    def told(self, words: str) -> bool:
        """True when a message has these words in it."""
        return any(words in text for _, text in self.messages)


def write_pictures(folder: Path, count: int = 4, side: int = SIDE, first: int = 0) -> Path:
    """Pictures of noise around a colour of their own, each with a caption file."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        noise = numpy.random.default_rng(index)
        colour = noise.integers(0, 200, 3)
        pixels = (colour + noise.integers(0, 55, (side, side, 3))).astype("uint8")
        Image.fromarray(pixels).save(folder / f"picture{index}.png")
        (folder / f"picture{index}.txt").write_text(f"zwx, colour {index}, noise", encoding="utf-8")
    return folder


def tiny_settings(pictures: Path, **changes: Any) -> Settings:
    """Settings that train quickly and in full precision."""
    asked: dict[str, Any] = {
        "output_name": "tiny", "trigger": "zwx", "train_data_dir": str(pictures), "resolution": str(SIDE),
        "min_bucket_reso": SIDE, "max_bucket_reso": SIDE, "bucket_reso_steps": 8, "train_batch_size": 2,
        "network_dim": 2, "network_alpha": 2.0, "learning_rate": 1e-2, "max_train_steps": 4, "seed": 7,
        "save_precision": "float", "mixed_precision": "no", "cache_latents_to_disk": False, "sample_at_end": False,
    }  # fmt: skip
    return Settings(**{**asked, **changes})


def tiny_job(pictures: Path, **changes: Any) -> JobConfig:
    """A job over a folder of pictures."""
    return job_from_settings(tiny_settings(pictures, **changes))


@dataclass
class Run:
    """One run: how it ended, and everything it told."""

    outcome: Outcome
    record: MemoryRecord
    host: TinyHost
    asked: Settings

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What the file that it left holds."""
        assert self.outcome.path is not None
        return read_lora(self.outcome.path).tensors

    @property
    def metadata(self) -> dict[str, str]:
        assert self.outcome.path is not None
        return read_lora(self.outcome.path).metadata

    @property
    def files(self) -> list[str]:
        """Every file in the LoRA folder."""
        return sorted(path.name for path in self.host.folders.lora.iterdir())


def run(
    job: JobConfig,
    root: Path,
    on_step: Callable[[int, Control], None] | None = None,
    host: TinyHost | None = None,
    record: MemoryRecord | None = None,
    control: Control | None = None,
    predicts: bool = False,
    losses_at_once: int = 1,
) -> Run:
    """Trains below the folder `root`, and sees to it that everything else is as before.

    `predicts`: with the prediction of its memory, which takes seconds. `losses_at_once`: how many steps the record is
    told of together; `on_step` comes with them.
    """
    host = host or TinyHost(root)
    asked = control or Control()
    record = record or MemoryRecord(root / "record")
    if on_step is not None:
        record.on_step = lambda step: on_step(step, asked)
    with unchanged(host), pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "STEPS", losses_at_once)
        patch.setattr(divergence, "SHARE", float("inf"))  # what a run goes back to does not rest on the clock
        if losses_at_once > 1:
            patch.setattr(monitor, "longest_wait", lambda device: float("inf"))
        if not predicts:
            patch.setattr(memory_run, "remembering", predicts_nothing)
        outcome = train(job, host, record, asked)
    return Run(outcome, record, host, job.settings)


def spoil(monkeypatch: pytest.MonkeyPatch, at_step: int, value: float = float("nan")) -> dict[str, int]:
    """Makes the loss of one step, from 1, `value`. Gives the count of those computed so far."""
    calls = {"count": 0}
    losses = losses_module.diffusion_losses

    def broken(*arguments: Any) -> Any:
        calls["count"] += 1
        return losses(*arguments) * (value if calls["count"] == at_step else 1.0)

    monkeypatch.setattr(losses_module, "diffusion_losses", broken)
    return calls


def predicts_nothing(folder: Path) -> Callable[[Any], Prediction]:
    """In place of `memory_cache.remembering`: every run fits."""
    return lambda request: Prediction(**{field.name: 0 for field in fields(Prediction)})


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """The same names and the same bits."""
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different, f"{len(different)} of {len(ours)} differ, {different[0]} first"


@contextmanager
def unchanged(host: TinyHost) -> Iterator[None]:
    """The block may train, or fail to, but not leave a trace in the host's model, in torch or in the process."""
    parts = host.current.parts if host.current else tiny_parts()
    before = {**_model(parts), **_process()}
    try:
        yield
    finally:
        after = {**_model(parts), **_process()}
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        assert not changed, {name: (before.get(name), after.get(name)) for name in changed[:5]}


def _model(parts: Parts) -> dict[str, Any]:
    """The bits of the model and everything that training sets on modules and parameters."""
    found: dict[str, Any] = {}
    modules: list[nn.Module | None] = [parts.denoiser, parts.vae, *parts.text_encoders]
    for root in filter(None, modules):
        for name, parameter in root.named_parameters():
            bits = parameter.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
            grads = (parameter.requires_grad, parameter.grad is None, parameter.data_ptr())
            found[f"{type(root).__name__}.{name}"] = (hashlib.blake2b(bits).hexdigest(), *grads)
        for name, module in root.named_modules():
            hooks = sum(len(getattr(module, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks"))
            checkpointing = getattr(module, "gradient_checkpointing", False)
            found[f"{type(root).__name__}.{name}()"] = (
                module.__dict__.get("forward"), module.training, hooks, checkpointing,
            )  # fmt: skip
    return found


def _process() -> dict[str, Any]:
    """What a library could leave changed in the process."""
    root = logging.getLogger()
    return {
        "dtype": torch.get_default_dtype(),
        "torch's random numbers": torch.get_rng_state().numpy().tobytes(),
        "Python's random numbers": random.getstate(),
        "numpy's random numbers": str(numpy.random.get_state()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled()),
        "processor autocast": torch.is_autocast_cpu_enabled(),
        "torch threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "logging": (root.level, list(root.handlers), logging.raiseExceptions),
        "loggers": {
            name: (logging.getLogger(name).level, list(logging.getLogger(name).handlers))
            for name in ("accelerate", "diffusers", "transformers", "torch", "PIL")
        },
        "folder": str(Path.cwd()),
        "import path": list(sys.path),
        "environment": dict(os.environ),
        "accelerate": [dict(kind._shared_state) for kind in (AcceleratorState, PartialState, GradientState)],
        "threads": sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("test-")),
    }
