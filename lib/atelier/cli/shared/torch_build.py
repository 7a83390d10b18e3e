"""Warns about a card that torch cannot use: on Windows, pip's default torch computes only on the CPU."""

from __future__ import annotations

import shutil
import sys

import torch


def unused_card() -> str | None:
    """A sentence with the command that helps, where NVIDIA's driver is there and torch has no CUDA; else None."""
    if torch.cuda.is_available() or torch.version.cuda is not None or shutil.which("nvidia-smi") is None:
        return None
    version = torch.__version__.partition("+")[0]
    return (
        "There is an NVIDIA GPU, but this PyTorch computes only on the CPU. To use the GPU, run:\n"
        f'    "{sys.executable}" -m pip install --force-reinstall torch=={version} '
        "--index-url https://download.pytorch.org/whl/cu126"
    )
