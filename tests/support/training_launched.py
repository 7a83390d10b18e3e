"""Trains on one process and on two, through the command line, the processes being forks of this one.

    python training_launched.py FOLDER

Prints JSON: the losses of each run, the files it left, and how far apart the weights are.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))

import pytest
import torch

from atelier.adapters.files.kohya_file import read_lora
from atelier.cli import train_command
from atelier.cli.shared import headless
from atelier.models.checkpoints.save import save_checkpoint
from atelier.training.memory import for_run as memory_run
from atelier.training.progress import last_good as divergence
from atelier.training.progress import monitor
from tests.support.training_fakes import predicts_nothing, spoil, tiny_parts, write_pictures
from tests.support.training_forks import arguments_for, fork

SETTINGS = """
output_name = "tiny"
resolution = "32"
min_bucket_reso = 32
bucket_reso_steps = 8
network_dim = 2
learning_rate = 1e-2
max_train_steps = 6
save_every_n_steps = 2
noise_offset = 0.1
sample_every_n_steps = 3
sample_prompts = "a cat --s 1 --w 32 --h 32"
save_precision = "float"
mixed_precision = "no"
seed = 3
"""


def launch(
    folder: Path, data: str, world: int, *more: str, stop_after: int | None = None, spoilt: int | None = None
) -> None:
    """One run below `data` on `world` processes, each with `more` arguments; asserts that all end well.

    `spoilt`: the step, from 1, whose loss is no number; all are to end with 1 then.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):

        def live(rank: int = rank) -> int:
            if world > 1:
                os.environ.update(
                    RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
                    MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
                )  # fmt: skip
            if stop_after is not None and rank == world - 1:
                stop_at(stop_after)
            if spoilt is not None:
                spoil(pytest.MonkeyPatch(), spoilt)  # in this fork alone
                divergence.SHARE = float("inf")
                monitor.STEPS = 1 if rank == world - 1 else 10
            return train_command.run([*arguments_for(folder, data), *more])

        children.append(fork(folder / f"{data}-{rank}.log", live))
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    logs = [(folder / f"{data}-{rank}.log").read_text(encoding="utf-8") for rank in range(world)]
    assert codes == [0 if spoilt is None else 1] * world, "\n".join(logs)


def stop_at(step: int) -> None:
    """SIGTERM to this process, one of several, once it has told of so many losses: all of them are to stop."""
    told: Callable[..., None] = headless.SilentRecord.losses

    def losses(self: Any, rows: Any) -> None:
        told(self, rows)
        if rows[-1][0] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    headless.SilentRecord.losses = losses  # type: ignore[method-assign]


def result(folder: Path, data: str) -> dict[str, Any]:
    rows = [json.loads(line) for line in (folder / data / "run" / "losses.jsonl").read_text().splitlines()]
    events = [json.loads(line) for line in (folder / data / "run" / "events.jsonl").read_text().splitlines()]
    return {
        "steps": [row[0] for row in rows],
        "losses": [row[1] for row in rows],
        "files": sorted(path.name for path in (folder / data / "loras").iterdir()),
        "saved": [event["name"] for event in events if event["kind"] == "saved"],
        "samples": sum(event["kind"] == "sample" for event in events),
    }


def apart(folder: Path, one: str, other: str) -> float:
    """The largest difference between the weights of two runs."""
    ours, theirs = (read_lora(folder / data / "loras" / "tiny.safetensors").tensors for data in (one, other))
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def main(folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    monitor.STEPS = 1
    memory_run.remembering = predicts_nothing
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / "base", tiny_parts(), format="diffusers")
    # Nine pictures, four at once: the last batch of an epoch leaves one of two processes without a picture.
    pictures = write_pictures(folder / "pictures", 9)
    text = SETTINGS + f"train_data_dir = {json.dumps(str(pictures))}\n"
    (folder / "settings.toml").write_text(text, encoding="utf-8")
    launch(folder, "one", 1, "--train_batch_size", "4")
    launch(folder, "two", 2, "--train_batch_size", "2")
    launch(folder, "resumed", 2, "--train_batch_size", "2", stop_after=3)
    stopped = result(folder, "resumed")
    launch(folder, "resumed", 2, "--train_batch_size", "2")
    launch(folder, "one-a", 1, "--train_batch_size", "4", "--gradient_accumulation_steps", "2")
    launch(folder, "two-a", 2, "--train_batch_size", "2", "--gradient_accumulation_steps", "2")
    launch(folder, "spoilt", 2, "--train_batch_size", "2", spoilt=3)
    names = ("one", "two", "resumed", "one-a", "two-a", "spoilt")
    return {
        **{name: result(folder, name) for name in names},
        "stopped": stopped,
        "apart": apart(folder, "one", "two"),
        "resumed apart": apart(folder, "two", "resumed"),
        "accumulated apart": apart(folder, "one-a", "two-a"),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
