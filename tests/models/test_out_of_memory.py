"""How devices say that their memory is full, and what only looks like it."""

from __future__ import annotations

import pytest
import torch

from atelier.models.out_of_memory import is_out_of_memory

GB = 1 << 30


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", "Could not allocate tensor: not enough GPU video memory!",
        "DefaultCPUAllocator: can't allocate memory",
    ],
)  # fmt: skip
def test_full_memory_by_its_words(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(ValueError(words))


@pytest.mark.parametrize(
    "words",
    ["GET was unable to find an engine to execute this computation", "Unable to find a valid cuDNN algorithm to run"],
)
def test_an_engine_that_is_not_found_means_full_memory_on_a_full_gpu_alone(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError(words)
    assert not is_out_of_memory(error), "without a GPU"
    free = [5 * GB, GB // 2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 8 * GB))
    assert is_out_of_memory(error)
    free[1] = 2 * GB
    assert not is_out_of_memory(error)


def test_other_errors_are_none() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.cuda.OutOfMemoryError("full"))
