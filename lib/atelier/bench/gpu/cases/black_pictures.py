"""Samples where the VAE overflows in half precision, as SDXL's does: pictures, not black."""

from __future__ import annotations

from typing import Any

import torch

from atelier.bench.gpu.bases import SD1
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.runs import bench, half

LARGE = 3e4
"""What the decoder's first layer is scaled to give: beyond 65504 for some of its values."""


def run(machine: Machine) -> Found:
    """Draws a sample in a run over such a VAE."""
    with bench(machine, SD1, half(machine)) as on:
        assert on.host.current is not None
        vae: Any = on.host.current.parts.vae
        with torch.no_grad():
            vae.decoder.conv_in.weight.mul_(LARGE)
            inner = vae.decoder.conv_in(torch.randn_like(vae.decoder.conv_in.weight[:1, :, :1, :1].expand(1, -1, 8, 8)))
        side = on.base.side_on(machine)
        _, record = on.train(
            max_train_steps=1, sample_at_first=True, sample_prompts=f"a zwx thing --s 2 --w {side} --h {side}"
        )
    levels = [torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).float() for picture in record.pictures]
    means = [float(level.mean()) for level in levels]
    spread = [float(level.std()) for level in levels]
    drawn = bool(levels) and all(mean > 8 and deviation > 4 for mean, deviation in zip(means, spread))
    overflows = not bool(torch.isfinite(inner).all())
    return Found(
        drawn and (overflows or not machine.is_gpu),
        f"{len(levels)} samples, mean grey {', '.join(f'{mean:.0f}' for mean in means)}; the VAE "
        f"{'overflows' if overflows else 'does not overflow here'}",
        {"means": means, "deviations": spread, "overflows": overflows, "messages": record.messages},
    )


CASE = Case("black_pictures", "Samples are drawn where the VAE overflows in fp16.", 10, 30, run)
