"""Another trainer's command, timed in turn with runs of ours of the same settings."""

from __future__ import annotations

import shlex
import statistics
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

from atelier.bench.gpu.bases import all_bases
from atelier.bench.gpu.case import Case, Found, LeftOut
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.runs import Bench, bench, half
from atelier.config.kohya.exporter import export_job
from atelier.models.checkpoints.save import save_checkpoint

SHORT, LONG = 10, 40
"""Steps of the two runs of each: their difference is that of steps alone, without imports and loading."""
TIMES = 2
FASTER = 0.15
"""A step of ours takes so much less of the time than one of sd-scripts'."""
LEAST = 60.0
"""Seconds that a command of theirs may take however little time is left."""


def run(machine: Machine) -> Found:
    """Whole processes of theirs beside whole runs of ours, in turn.

    With {steps} or {config} in the command a step of each is known too; with {config}, whose settings are ours, it has
    to be the shorter by a share.
    """
    if not machine.against:
        raise LeftOut("no --against")
    counts = (SHORT, LONG) if any(word in machine.against for word in ("{steps}", "{config}")) else (LONG,)
    base = all_bases()[0]
    ours: dict[int, list[float]] = {count: [] for count in counts}
    theirs: dict[int, list[float]] = {count: [] for count in counts}
    with bench(machine, base, half(machine)) as on:
        model = _saved(on) if any(word in machine.against for word in ("{model}", "{config}")) else None
        for turn in machine.in_time(range(TIMES)):
            for count in counts:
                words = _command(on, model, count, turn)
                ours[count].append(machine.wall_seconds(partial(on.train, max_train_steps=count)))
                machine.free_everything()
                left = max(LEAST, machine.until - time.monotonic())
                theirs[count].append(machine.wall_seconds(partial(_call, words, left if machine.is_gpu else None)))
    whole = statistics.median(ours[LONG]), statistics.median(theirs[LONG])
    says = f"{base.name}, {LONG} steps: ours {whole[0]:.1f} s, theirs {whole[1]:.1f} s ({whole[0] / whole[1]:.2f})"
    passed: bool | None = None
    figures: dict[str, Any] = {"ours": ours, "theirs": theirs, "command": machine.against}
    if len(counts) > 1:
        step = [(statistics.median(each[LONG]) - statistics.median(each[SHORT])) / (LONG - SHORT)
                for each in (ours, theirs)]  # fmt: skip
        says += f"; a step: ours {step[0]:.3f} s, theirs {step[1]:.3f} s"
        figures["step"] = step
        if machine.is_gpu and "{config}" in machine.against:
            passed = step[0] <= (1 - FASTER) * step[1]
    return Found(passed, says, figures)


def _command(on: Bench, model: Path | None, steps: int, turn: int) -> list[str]:
    """The words of their command with what stands for our settings filled in."""
    out = on.folder / f"theirs-{steps}-{turn}"
    side = on.base.side_on(on.machine)
    job = on.job(max_train_steps=steps)
    given = {"steps": steps, "side": side, "out": out, "model": model, "rank": job.settings.network_dim,
             "pictures": job.settings.train_data_dir}  # fmt: skip
    if "{config}" in on.machine.against:
        given["config"] = export_job(job, out, base=str(model)).training
    words = shlex.split(on.machine.against)
    for name, value in given.items():
        words = [word.replace(f"{{{name}}}", str(value)) for word in words]
    return words


def _call(words: list[str], timeout: float | None) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=timeout)


def _saved(on: Bench) -> Path:
    """The random base as a checkpoint, for a trainer that reads one."""
    assert on.host.current is not None
    path = on.folder / "base.safetensors"
    save_checkpoint(path, on.host.current.parts)
    return path


CASE = Case("against", "How another trainer's command compares.", 130, 60, run)
