"""The size of an optimizer's state: bytes for each trained parameter."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence

import torch
from torch import nn

from atelier.training.optim.optimizers import create_optimizer, is_schedule_free

log = logging.getLogger(__name__)

_SHAPE = (512, 32)
"""Shape of a LoRA's matrix, large enough that a step count or a row of means does not matter."""
_EIGHT_BIT = {"adamw8bit": 2, "pagedadamw8bit": 2, "lion8bit": 1, "pagedlion8bit": 1, "sgdnesterov8bit": 1}
"""One byte per moment. They are quantised only on a GPU, so this cannot be measured without one."""
SMALL_STATE = 4096
"""bitsandbytes keeps the state of tensors with fewer numbers in float32."""
_SCALES = 4 / 256
"""bitsandbytes keeps a float32 scale for every 256 values of each moment."""
_WHEN_UNKNOWN = 8.0
"""Two float32 moments."""


@functools.lru_cache(maxsize=64)
def state_bytes(name: str, arguments: str, dtype: str = "float32") -> float:
    """Bytes of state for each trained parameter, measured with two real steps of the optimizer on a small matrix.

    `arguments` are kohya's optimizer_args as a JSON list. For an optimizer that cannot run here, two moments are
    assumed.
    """
    eight = _EIGHT_BIT.get(name.lower())
    if eight is not None:
        return eight * (1 + _SCALES)
    weight = nn.Parameter(torch.full(_SHAPE, 0.5, dtype=getattr(torch, dtype)))
    try:
        optimizer = create_optimizer([{"params": [weight], "lr": 1e-4}], name, 1e-4, json.loads(arguments) or [])
        if is_schedule_free(optimizer):
            optimizer.train()  # type: ignore[attr-defined]
        for _ in range(2):
            weight.grad = torch.full_like(weight, 0.01)
            optimizer.step()
    except Exception as error:  # noqa: BLE001 - any library's any error: the run itself will tell the person
        log.info("the optimizer %s could not be measured: %s", name, error)
        return _WHEN_UNKNOWN
    return _bytes(optimizer.state) / weight.numel()


def optimizer_bytes(parameters: Sequence[nn.Parameter], name: str, arguments: str, dtype: str = "float32") -> int:
    """Bytes of state for all of `parameters`; like `state_bytes`, but 8-bit ones keep small tensors in float32."""
    each = state_bytes(name, arguments, dtype)
    moments = _EIGHT_BIT.get(name.lower())
    if moments is None:
        return int(sum(parameter.numel() for parameter in parameters) * each)
    counts = [parameter.numel() for parameter in parameters]
    return int(sum(count * (4 * moments if count < SMALL_STATE else each) for count in counts))


def _bytes(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(_bytes(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_bytes(item) for item in value)
    return 0
