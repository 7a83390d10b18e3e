"""A process that trains a few real steps on the processor and tells the peak of its own memory, as JSON.

    python training_memory_victim.py '[["off", "16"], ["on", "16", "whole"], …]'

Each case is checkpointing, rank and kind, and is measured in a fork of its own, which costs no import. Prints a line of
JSON for each. The peak is what the operating system counts (VmHWM), reset right before the model is made: it holds what
a count of tensors cannot see, the workspaces of kernels and what the allocator keeps.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))

import torch

from atelier.jobs.control import Control
from atelier.models.checkpoints.size import bytes_of
from atelier.training.memory import for_run as memory_run
from atelier.training.memory.prediction import predict
from atelier.training.run import train
from tests.support.process_memory import forget_highest, status
from tests.support.training_fakes import MemoryRecord, TinyHost, predicts_nothing, tiny_job
from tests.support.training_forks import fork
from tests.support.training_memory_models import SIDE, parts_to_measure, pictures_to_measure, request_to_measure


def measure(folder: Path, checkpointing: str, rank: str, *kind: str) -> dict[str, int]:
    """The measured and the predicted peak of a case, and what the base takes, in bytes."""
    more: dict[str, Any] = {}
    if kind[:1] == ("whole",):
        more = {"train_whole_model": True, **dict.fromkeys(kind[1:], True)}
    elif kind:
        more = {"network_module": "lycoris.kohya", "network_args": list(kind)}
    pictures_to_measure(folder / "pictures")
    job = tiny_job(
        folder / "pictures", resolution=str(SIDE), max_bucket_reso=SIDE, network_dim=int(rank), max_train_steps=2,
        train_batch_size=2, gradient_checkpointing=checkpointing == "on", network_train_unet_only=True, **more,
    )  # fmt: skip
    # Whatever is cached, predicted or brought into memory on first use is there before the measurement.
    small = tiny_job(folder / "pictures", max_train_steps=1, network_train_unet_only=True)
    train(small, TinyHost(folder / "warm"), MemoryRecord(folder / "warm-record"), Control())
    predicted = predict(request_to_measure(job))
    gc.collect()
    before = status("VmRSS")
    forget_highest()
    host = TinyHost(folder / "host", parts_to_measure())
    train(job, host, MemoryRecord(folder / "record"), Control())
    peak = status("VmHWM") - before
    # The host's own model lies there too, and is no part of what a run on a copy needs.
    others = bytes_of(host.parts.parameters()) if job.settings.train_whole_model else 0
    return {"measured": peak - others, "predicted": predicted.peak, "base": predicted.base}


def main() -> None:
    torch.set_num_threads(1)
    memory_run.remembering = predicts_nothing  # once for each case is enough
    for case in json.loads(sys.argv[1]):
        with tempfile.TemporaryDirectory() as name:
            found = Path(name) / "found.json"

            def live(case: list[str] = case, folder: Path = Path(name), found: Path = found) -> int:
                found.write_text(json.dumps(measure(folder, *case)), encoding="utf-8")
                return 0

            _, ended = os.waitpid(fork(Path(name) / "log", live), 0)
            assert ended == 0, (Path(name) / "log").read_text(encoding="utf-8")
            print(found.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
