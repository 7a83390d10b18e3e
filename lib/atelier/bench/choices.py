"""Times the bare loop with each option of torch (compiling, memory layout, attention) against the loop without it."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

from atelier.bench.models import loaded_host
from atelier.bench.steps import BareLoop, Case, begun_session, timed

WARM_UP = 2
"""Steps with a choice before it is timed: what is compiled for the backward pass comes with the first or the second."""


@dataclass(frozen=True)
class Way:
    """How a choice is made, which gives the module to call, and undone."""

    name: str
    make: Callable[[UNet2DConditionModel], nn.Module]
    undo: Callable[[UNet2DConditionModel], object]


@dataclass(frozen=True)
class Choice:
    """Medians in seconds. `once` is what the choice takes before it pays, above its usual steps."""

    name: str
    case: str
    precision: str
    plain_seconds: float
    seconds: float
    once: float

    @property
    def ratio(self) -> float:
        """With the choice over without."""
        return self.seconds / self.plain_seconds

    @property
    def pays_after(self) -> float | None:
        """Steps until what it took once is won back; None when it never is."""
        saved = self.plain_seconds - self.seconds
        return self.once / saved if saved > 0 else None

    def __str__(self) -> str:
        pays = "never pays" if self.pays_after is None else f"pays after {self.pays_after:.0f} steps"
        return (
            f"{self.case:<6} {self.precision:<9} {self.name:<32} | {self.plain_seconds:7.3f}  {self.seconds:7.3f}  "
            f"{self.ratio:5.3f} | {self.once:6.1f}  {pays}"
        )

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio, "pays_after": self.pays_after}


def measure_choice(name: str, case: Case, pairs: int) -> Choice:
    """Takes `pairs` steps of the bare loop as it is, as many with the choice of `WAYS`, and as it is again."""
    way = next(way for way in WAYS if way.name == name)
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as temporary:
        folder = Path(temporary)
        host = loaded_host(case.shape, folder / "data")
        with begun_session(host, case, pairs, folder) as session:
            loop, unet = BareLoop(session, case.shape.side), session.workplace.parts.denoiser
            assert isinstance(unet, UNet2DConditionModel)
            loop.step()
            plain = [timed(loop.step) for _ in range(pairs)]

            def begin() -> None:
                loop.unet = way.make(unet)
                for _ in range(WARM_UP):
                    loop.step()

            begun = timed(begin)
            chosen = [timed(loop.step) for _ in range(pairs)]
            way.undo(unet)
            loop.unet = unet
            loop.step()
            plain += [timed(loop.step) for _ in range(pairs)]
    usual = statistics.median(chosen)
    once = max(0.0, begun - WARM_UP * usual)
    return Choice(way.name, case.shape.name, case.precision, statistics.median(plain), usual, once)


def _single_operations(unet: UNet2DConditionModel) -> nn.Module:
    unet.set_attn_processor(AttnProcessor())
    return unet


WAYS = (
    Way("nothing: the noise of this table", lambda unet: unet, lambda unet: None),
    Way("attention in single operations", _single_operations, lambda unet: unet.set_attn_processor(AttnProcessor2_0())),
    Way(
        "channels_last",
        lambda unet: unet.to(memory_format=torch.channels_last),
        lambda unet: unet.to(memory_format=torch.contiguous_format),
    ),
    Way("torch.compile", lambda unet: torch.compile(unet), lambda unet: torch.compiler.reset()),
)
