"""The table of predicted memory: peaks on a GPU for the released models, computed without a GPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from atelier.config.settings.schema import Settings
from atelier.training.memory.prediction import Prediction, predict
from atelier.training.memory.request import Request, released, request_for
from atelier.training.memory.vae import predict_vae

GB = 1 << 30


@dataclass(frozen=True)
class MemoryCase:
    """A LoRA of rank 16 on a released model, batch 1, fp16 base, text encoder not trained.

    `optimizer` trains the UNet itself instead, all in bf16, each weight's step inside the backward pass.
    """

    family: str
    side: int
    precision: str
    gradient_checkpointing: bool
    streamed: bool = False
    fp8: bool = False
    optimizer: str = ""


CASES = [
    MemoryCase(family, side, precision, checkpointing)
    for family, side in (("sd1", 512), ("sd1", 768), ("sdxl", 1024))
    for precision in ("bf16", "fp16")
    for checkpointing in (False, True)
] + [MemoryCase("sdxl", 1024, "fp16", True, True, fp8) for fp8 in (False, True)]
CASES += [
    MemoryCase(family, side, "bf16", True, optimizer=optimizer)
    for family, side in (("sd1", 512), ("sdxl", 1024))
    for optimizer in ("AdaFactor", "AdamW8bit", "AdamW")
]
HEAD = "model side autocast checkpointing | base  of it text+VAE  LoRA+optimizer  activations | caching   step   peak"


def predicted(case: MemoryCase) -> Prediction:
    """The prediction for a GPU."""
    return predict(request_of(case))


def request_of(case: MemoryCase) -> Request:
    """The request of a run on a GPU."""
    settings = Settings(
        network_dim=16,
        network_alpha=16,
        network_train_unet_only=True,
        gradient_checkpointing=case.gradient_checkpointing,
    )
    stored = "float16"
    if case.optimizer:
        settings = replace(
            settings, train_whole_model=True, full_bf16=True, fused_backward_pass=True, optimizer_type=case.optimizer
        )
        stored = "bfloat16"
    size = (case.side, case.side)
    request = request_for(
        settings, case.family, released(case.family), size, 1, case.precision,
        base_dtype=stored, vae_dtype=stored, device="cuda", can_stream=True, streamed=case.streamed,
    )  # fmt: skip
    return replace(request, fp8=case.fp8)


VAE_HEAD = "VAE alone, one picture, beside its weights | encoding  decoding"


def vae_rows() -> list[str]:
    """A line for each model and size of `CASES`, for a VAE in fp16 as it is loaded and in float32."""
    cases = {(case.family, case.side): case for case in CASES if case.precision == "fp16"}
    rows = []
    for (family, side), case in cases.items():
        for dtype in ("float16", "float32"):
            found = predict_vae(replace(request_of(case), vae_dtype=dtype))
            name = f"{family:<5} {side:<4} {dtype}"
            rows.append(f"{name:<42} | {found.encoding / GB:8.2f}  {found.decoding / GB:8.2f}")
    return rows


def row(case: MemoryCase, found: Prediction) -> str:
    """A line of the table, in units of 1024³ bytes."""
    numbers = (
        found.base, found.text_and_vae, found.trained + found.optimizer, found.activations, found.caching, found.step,
        found.peak,
    )  # fmt: skip
    base, idle, learning, activations, caching, step, peak = (number / GB for number in numbers)
    return (
        f"{case.family:<5} {case.side:<4} {case.precision:<8} {_savers(case):<13} | "
        f"{base:4.2f}  {idle:14.2f}  {learning:14.2f}  {activations:11.2f} | {caching:7.2f}  {step:5.2f}  {peak:5.2f}"
    )


def _savers(case: MemoryCase) -> str:
    if case.optimizer:
        return case.optimizer
    if case.streamed:
        return "on, fp8" if case.fp8 else "on, streamed"
    return "on" if case.gradient_checkpointing else "off"


def report(case: MemoryCase, found: Prediction) -> dict[str, Any]:
    """The case and the prediction in bytes, for JSON."""
    return {**asdict(case), **asdict(found), "peak": found.peak}
