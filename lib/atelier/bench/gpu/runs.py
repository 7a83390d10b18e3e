"""Runs of the real trainer on a random base: whole ones, and sessions that a case steps by itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image

from atelier.bench.gpu.bases import Base
from atelier.bench.gpu.machine import Machine
from atelier.config.job import JobConfig, job_from_settings
from atelier.config.settings.schema import Settings
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.jobs.control import Control
from atelier.jobs.record import Record
from atelier.training.context import trains_denoiser, trains_text
from atelier.training.device.savings import MemorySavings
from atelier.training.memory.prediction import Prediction, predict
from atelier.training.memory.request import Request, configs_of_parts, dtype_of, request_for
from atelier.training.run import Outcome, train

PICTURES = 2


class Noted(Record):
    """A record that also keeps in memory what it is told."""

    def __init__(self, *given: Any, **more: Any) -> None:
        self.messages: list[str] = []
        self.pictures: list[Image.Image] = []
        super().__init__(*given, **more)

    def message(self, text: str, level: str = "info") -> Any:
        self.messages.append(text)
        return super().message(text, level)

    def sample(self, step: int, index: int, prompt: str, image: Image.Image) -> Any:
        self.pictures.append(image)
        return super().sample(step, index, prompt, image)


@dataclass
class Bench:
    """A base on the machine, and a folder of its own for what is done with it."""

    machine: Machine
    base: Base
    host: EmbeddedHost
    folder: Path
    runs: int = 0

    def job(self, **changes: Any) -> JobConfig:
        """A LoRA of rank 16 on the denoiser over two pictures of noise; `changes` are settings."""
        side = self.base.side_on(self.machine)
        pictures = self.folder / "pictures"
        if not pictures.exists():
            pictures.mkdir(parents=True)
            for number in range(PICTURES):
                noise = torch.randint(0, 255, (side, side, 3), generator=torch.Generator().manual_seed(number))
                Image.fromarray(noise.to(torch.uint8).numpy()).save(pictures / f"{number}.png")
        asked: dict[str, Any] = {
            "output_name": "gpu", "trigger": "a zwx thing", "train_data_dir": str(pictures), "resolution": str(side),
            "min_bucket_reso": side, "max_bucket_reso": side, "bucket_reso_steps": 8, "network_dim": 16,
            "network_alpha": 16, "network_train_unet_only": True, "max_train_steps": 1000, "seed": 0,
            "cache_latents_to_disk": False, "sample_at_end": False,
        }  # fmt: skip
        return job_from_settings(Settings(**{**asked, **changes}))

    def train(
        self, record: Noted | None = None, on_step: Callable[[int, Control], None] | None = None, **changes: Any
    ) -> tuple[Outcome, Noted]:
        """A whole run. `on_step` is called after each step, with what can stop the run."""
        record = record or self.record()
        control = Control()
        if on_step is not None:
            told = record.losses

            def losses(rows: Any) -> None:
                told(rows)
                on_step(rows[-1][0], control)

            record.losses = losses  # type: ignore[method-assign]
        return train(self.job(**changes), self.host, record, control), record

    def predicted(self, precision: str, **changes: Any) -> Prediction | None:
        """What such a run is expected to need; None for a family whose memory cannot be predicted."""
        try:
            return predict(self.request(precision, **changes))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            self.machine.notes.append(f"{self.base.name} is not predicted: {type(error).__name__}: {error}")
            return None

    def request(self, precision: str, **changes: Any) -> Request:
        """As the plan of such a run asks for its prediction. Raises what a family without one raises."""
        assert self.host.current is not None
        parts, side = self.host.current.parts, self.base.side_on(self.machine)
        settings = self.job(**changes).settings
        return request_for(
            settings, self.base.name, configs_of_parts(parts), (side, side), settings.train_batch_size, precision,
            trains_denoiser=trains_denoiser(settings), trains_text=trains_text(settings),
            base_dtype=dtype_of(parts.denoiser), vae_dtype=dtype_of(parts.vae), device=self.machine.device.type,
        )  # fmt: skip

    def record(self) -> Noted:
        """Of a new run. On a CPU nothing is planned: what saves memory is noted in its folder, as after a restart."""
        self.runs += 1
        record = cast(Noted, Noted.create(self.folder / f"run{self.runs}", {}))
        if not self.machine.is_gpu:
            MemorySavings().keep(record.folder)
        return record


@contextmanager
def bench(machine: Machine, base: Base, dtype: torch.dtype) -> Iterator[Bench]:
    """The base on an empty device; both are empty again afterwards."""
    machine.free_everything()
    folder = machine.folder / f"{base.name}-{len(list(machine.folder.iterdir()))}"
    found = Bench(machine, base, base.on(machine, folder, dtype), folder)
    try:
        yield found
    finally:
        found.host.current = None
        shutil.rmtree(folder, ignore_errors=True)
        machine.free_everything()


def half(machine: Machine) -> torch.dtype:
    """The precision that WebUIs keep a base in: fp16 on a GPU. A CPU cannot train in it."""
    return torch.float16 if machine.is_gpu else torch.float32
