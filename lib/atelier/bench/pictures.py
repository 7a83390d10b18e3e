"""Makes pictures of noise, and a job that trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from atelier.bench.models import Shape
from atelier.config.job import JobConfig, job_from_settings
from atelier.config.settings.schema import Settings

PICTURES = 2


def bench_job(shape: Shape, folder: Path, steps: int, **changes: Any) -> JobConfig:
    """A LoRA of the UNet over `PICTURES` new pictures in `folder`; `changes` are settings."""
    folder.mkdir()
    side = shape.side
    for number in range(PICTURES):
        noise = torch.randint(0, 255, (side, side, 3), generator=torch.Generator().manual_seed(number))
        Image.fromarray(noise.to(torch.uint8).numpy()).save(folder / f"{number}.png")
    asked: dict[str, Any] = {
        "output_name": "bench", "trigger": "a zwx thing", "train_data_dir": str(folder), "resolution": str(side),
        "min_bucket_reso": side, "max_bucket_reso": side, "network_dim": 8, "network_alpha": 8,
        "network_train_unet_only": True, "mixed_precision": "no", "max_train_steps": steps,
        "cache_latents_to_disk": False, "seed": 0, "sample_at_end": False,
    }  # fmt: skip
    return job_from_settings(Settings(**{**asked, **changes}))
