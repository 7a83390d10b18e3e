"""A process that trains a few real steps on the processor and tells the peak of its own memory, as JSON.

The peak is what the operating system counts (VmHWM), reset right before the model is made: it holds what a count of
tensors cannot see, the workspaces of kernels and what the allocator keeps.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))


def main() -> None:
    import torch

    from atelier.jobs.control import Control
    from atelier.models.checkpoints.size import bytes_of
    from atelier.training.memory.prediction import predict
    from atelier.training.run import train
    from tests.support.process_memory import forget_highest, status
    from tests.support.training_fakes import MemoryRecord, TinyHost, tiny_job
    from tests.support.training_memory_models import SIDE, parts_to_measure, pictures_to_measure, request_to_measure

    torch.set_num_threads(1)
    checkpointing, rank = sys.argv[1] == "on", int(sys.argv[2])
    kind = sys.argv[3:]
    more: dict[str, Any] = {}
    if kind[:1] == ["whole"]:
        more = {"train_whole_model": True, **dict.fromkeys(kind[1:], True)}
    elif kind:
        more = {"network_module": "lycoris.kohya", "network_args": kind}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures_to_measure(folder / "pictures")
        job = tiny_job(
            folder / "pictures", resolution=str(SIDE), max_bucket_reso=SIDE, network_dim=rank, max_train_steps=3,
            train_batch_size=2, gradient_checkpointing=checkpointing, network_train_unet_only=True,
            **more,
        )  # fmt: skip
        # Whatever is imported, cached or predicted on first use is there before the measurement.
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
    print(json.dumps({"measured": peak - others, "predicted": predicted.peak, "base": predicted.base}))


if __name__ == "__main__":
    main()
