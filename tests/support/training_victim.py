"""Trains through the command line again and again and is killed each time, until the runs are done all the same.

    python training_victim.py FOLDER KILLS SEED

Everything is imported once; each life is a fork of this process, which costs what loading the tiny model costs. A life
ends by SIGKILL after a random time, or before a random file operation, or with a file half written. Prints JSON: the
kills, how many of each kind, the runs that were finished, and whether their files hold the bits of a run left in peace.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))

import torch
from safetensors.torch import load_file

from atelier.cli import train_command
from atelier.cli.shared import headless
from atelier.config.kohya import toml_in
from atelier.models.checkpoints import load as checkpoint
from atelier.models.checkpoints.save import save_checkpoint
from atelier.training.memory import for_run as memory_run
from tests.support.training_fakes import assert_same, predicts_nothing, tiny_parts, write_pictures
from tests.support.training_forks import arguments_for, fork

STEPS = 10
KINDS = {
    "adapter": "network_train_unet_only = true\n",
    "average": 'optimizer_type = "Prodigy"\nlearning_rate = 1.0\nema_decay = 0.9\nema_save = "beside"\n',
    "model": "train_whole_model = true\n",
}
"""What is trained: a LoRA for the UNet; one for the text encoder too, with a moving average and an optimiser that keeps
more; the model itself."""
SETTINGS = f"""
output_name = "tiny"
resolution = "32"
min_bucket_reso = 32
bucket_reso_steps = 8
train_batch_size = 2
network_dim = 2
network_dropout = 0.2
learning_rate = 1e-2
lr_scheduler = "cosine"
max_train_steps = {STEPS}
save_every_n_steps = 2
save_last_n_steps = 3
sample_every_n_steps = 4
sample_prompts = "a cat --s 2 --w 32 --h 32"
save_precision = "float"
mixed_precision = "no"
seed = 3
"""


class Scene:
    """The folder with the base, the pictures and the settings; `data` folders of the runs go beside them."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.saved = "models" if kind == "model" else "loras"
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(folder / "base", tiny_parts(), format="diffusers")
        pictures = write_pictures(folder / "pictures")
        changed = {line.split(" = ")[0] for line in KINDS[kind].splitlines()}
        kept = [line for line in SETTINGS.splitlines() if line.split(" = ")[0] not in changed]
        text = "\n".join([*kept, KINDS[kind], f"train_data_dir = {json.dumps(str(pictures))}\n"])
        (folder / "settings.toml").write_text(text, encoding="utf-8")

    def life(self, data: str, prepare: Callable[[], None], limit: float | None = None) -> tuple[int, float]:
        """Goes on with the run below `data` in a fork. Gives its exit code, -9 when it was killed, and its seconds."""

        def live() -> int:
            prepare()
            return train_command.run(arguments_for(self.folder, data))

        began = time.monotonic()
        child = fork(self.folder / f"{data}.log", live)
        timer = threading.Timer(limit, os.kill, (child, signal.SIGKILL)) if limit is not None else None
        if timer is not None:
            timer.start()
        _, status = os.waitpid(child, 0)
        if timer is not None:
            timer.cancel()
            timer.join()
        return os.waitstatus_to_exitcode(status), time.monotonic() - began

    def check_whole(self, data: str) -> None:
        """What was saved can be loaded, however the life ended."""
        for path in (self.folder / data / self.saved).glob("[!.]*.safetensors"):
            assert load_file(path)

    def files(self, data: str) -> list[str]:
        """The names of all that was saved; half written files go with the next save, and so may be there."""
        return sorted(path.name for path in (self.folder / data / self.saved).iterdir() if path.suffix != ".part")

    def result(self, data: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / data / self.saved / "tiny.safetensors")


def nothing() -> None:
    """A life in peace, as far as it is concerned."""


def die_at_event(data: Path, number: int) -> Callable[[], None]:
    """SIGKILL before the numberth opening for writing, renaming or removing of a file below `data`."""

    def prepare() -> None:
        left = number

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if not _changes(event, arguments, str(data)):
                return
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)

    return prepare


def _changes(event: str, arguments: tuple[Any, ...], below: str) -> bool:
    if event == "open":
        path, mode, flags = arguments[0], arguments[1], arguments[2]
        if mode is not None and not set(str(mode)) & set("wax+") and not flags & (os.O_WRONLY | os.O_RDWR):
            return False
    elif event in ("os.rename", "os.remove"):
        path = arguments[0]
    else:
        return False
    return str(path).startswith(below)


def die_torn(number: int) -> Callable[[], None]:
    """SIGKILL at the numberth fsync, with half of that file's bytes on the disk."""

    def prepare() -> None:
        left = number
        sync = os.fsync

        def torn(file: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                handle = file if isinstance(file, int) else file.fileno()
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            sync(file)

        os.fsync = torn

    return prepare


def count_operations(into: Path) -> Callable[[], None]:
    """Writes how many file operations and how many fsyncs a whole life has, for the dice."""

    def prepare() -> None:
        counts: Counter[str] = Counter()
        sync = os.fsync

        def counted(file: Any) -> None:
            counts["fsync"] += 1
            sync(file)

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if _changes(event, arguments, str(into)):
                counts["event"] += 1

        os.fsync = counted
        sys.addaudithook(watch)
        ended = os._exit

        def leave(code: int) -> None:
            Path(f"{into}.counts").write_text(json.dumps(counts), encoding="utf-8")
            ended(code)

        os._exit = leave  # type: ignore[assignment]

    return prepare


def main(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kills runs of every kind in turn, until there were enough and one of each was finished all the same."""
    assert headless and toml_in  # what a life would import
    torch.set_num_threads(1)
    tokenizers = checkpoint.load_tokenizers("sd1", None)
    checkpoint.load_tokenizers = lambda *_: tokenizers
    memory_run.remembering = predicts_nothing
    gc.collect()
    gc.freeze()
    dice = random.Random(seed)
    done: Counter[str] = Counter()
    for index, kind in enumerate(KINDS):
        war(Scene(folder / kind, kind), kills * (index + 1) // len(KINDS), dice, done)
    return {"kills": sum(done[way] for way in ("moment", "event", "torn")), **done}


def war(scene: Scene, kills: int, dice: random.Random, done: Counter[str]) -> None:
    """Runs of one scene, until there were `kills` kills in all. `done` counts them by their ways."""
    folder = scene.folder
    code, seconds = scene.life("peace", count_operations(folder / "peace"))
    assert code == 0, (folder / "peace.log").read_text(encoding="utf-8")
    counts = json.loads((folder / "peace.counts").read_text(encoding="utf-8"))
    wanted, expected = scene.result("peace"), scene.files("peace")
    finished = 0
    while (killed := sum(done[way] for way in ("moment", "event", "torn"))) < kills or finished == 0:
        data = f"war{finished}"
        while True:
            done["lives"] += 1
            kind = dice.choice(["moment", "event", "torn"]) if killed < kills else "peace"
            prepare: Callable[[], None] = nothing
            limit = None
            if kind == "moment":
                limit = dice.uniform(0.1, 0.8 * seconds)
            elif kind == "event":
                prepare = die_at_event(folder / data, dice.randint(1, counts["event"] // 3))
            elif kind == "torn":
                prepare = die_torn(dice.randint(1, counts["fsync"] // 2))
            code, _ = scene.life(data, prepare, limit)
            if (folder / data / scene.saved).exists():
                scene.check_whole(data)
            if code == 0:
                break
            assert code == -signal.SIGKILL, (folder / f"{data}.log").read_text(encoding="utf-8")
            done[kind] += 1
            killed += 1
        assert scene.files(data) == expected, (scene.files(data), expected)
        assert_same(scene.result(data), wanted)
        finished += 1
    done["finished"] += finished


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
