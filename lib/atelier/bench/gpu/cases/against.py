"""Another trainer's command, timed in turn with a run of ours of as many steps."""

from __future__ import annotations

import shlex
import statistics
import subprocess

from atelier.bench.gpu.bases import SD15
from atelier.bench.gpu.case import Case, Found, LeftOut
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.runs import bench, half

STEPS, TIMES = 30, 2


def run(machine: Machine) -> Found:
    """Whole processes of theirs beside whole runs of ours, twice each, in turn."""
    if not machine.against:
        raise LeftOut("no --against")
    words = shlex.split(machine.against)
    pairs = []
    with bench(machine, SD15, half(machine)) as on:
        for _ in range(TIMES):
            ours = machine.seconds(lambda: on.train(max_train_steps=STEPS, train_batch_size=1))
            theirs = machine.seconds(lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL))
            pairs.append((ours, theirs))
    ours, theirs = (statistics.median(times) for times in zip(*pairs))
    return Found(
        None, f"ours {ours:.1f} s for {STEPS} steps of {SD15.name}, theirs {theirs:.1f} s ({ours / theirs:.2f})",
        {"pairs": pairs, "command": machine.against},
    )  # fmt: skip


CASE = Case("against", "How another trainer's command compares.", 130, 60, run)
