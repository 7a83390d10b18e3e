"""From the processor's memory to the training device, without waiting for what the device is at."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """`tensor` on `device`, in `dtype` if one is given. What is there already is given as it is.

    CUDA lets a copy from pageable memory wait until everything queued before it is done; one from page-locked memory
    queues up itself (CUDA Runtime API, "API synchronization behavior"), so that the processor can go on and prepare
    the next operations. Apple's devices read the processor's memory after this has returned: there it waits.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, dtype, non_blocking=device.type != "mps")
