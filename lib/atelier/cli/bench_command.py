"""`run.py bench`: our step against the bare UNet loop, with memory and the parts of a step."""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any


def run(arguments: list[str]) -> int:
    """Prints a table, and writes --json. Gives 0."""
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    parser.add_argument("--models", default="demo,sd15", help="of demo, sd15, sdxl (default: %(default)s)")
    parser.add_argument("--precisions", default="no,bf16", help="of no, bf16 (default: %(default)s)")
    parser.add_argument("--ranks", default="8", help="as in 8,64 (default: %(default)s)")
    parser.add_argument("--checkpointing", choices=("off", "on", "both"), default="off")
    parser.add_argument("--pairs", type=int, default=0, help="pairs of steps (default: 30 for demo, 4 for the others)")
    parser.add_argument("--threads", type=int, default=0, help="processor threads (default: torch's own choice)")
    parser.add_argument("--against", metavar="COMMAND", help="time this command in turn with our own training command")
    parser.add_argument("--memory", action="store_true", help="print the predicted memory of a LoRA step on a GPU")
    parser.add_argument("--soak", action="store_true", help="does memory stay flat over many steps and many runs?")
    parser.add_argument("--steps", type=int, default=2000, help="of the soak's long run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=200, help="of the soak's short runs (default: %(default)s)")
    options = parser.parse_args(arguments)

    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.soak:
        return _soak(options.steps, options.runs, options.json)
    if options.memory:
        return _memory(options.json)

    from atelier.bench.models import SHAPES
    from atelier.bench.steps import Case, Figures, measure

    results: list[Figures] = []
    print(_HEAD)
    for name in options.models.split(","):
        shape = SHAPES[name.strip()]
        pairs = options.pairs or (30 if name == "demo" else 4)
        for precision in options.precisions.split(","):
            for checkpointing in {"off": [False], "on": [True], "both": [False, True]}[options.checkpointing]:
                for rank in options.ranks.split(","):
                    figures = measure(Case(shape, precision.strip(), checkpointing, int(rank)), pairs)
                    results.append(figures)
                    print(_row(figures), flush=True)
    report: dict[str, Any] = {
        "step_ratio": statistics.median([figures.step_ratio for figures in results]),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cases": [figures.to_dict() for figures in results],
    }
    if options.against:
        report["against"] = against(shlex.split(options.against))
        print(f"against: {report['against']}")
    print(f"step_ratio (median of the cases): {report['step_ratio']:.3f}")
    _write(options.json, report)
    return 0


def _soak(steps: int, runs: int, target: str | None) -> int:
    """Gives 1 when something grew."""
    from atelier.bench.soak import soak_runs, soak_steps

    found = []
    for soak, count in ((soak_steps, steps), (soak_runs, runs)):
        if count:
            found.append(soak(count))
            print(found[-1], flush=True)
    _write(target, [each.to_dict() for each in found])
    return 0 if all(each.flat for each in found) else 1


def _memory(target: str | None) -> int:
    """Prints the table of predictions; needs no GPU, takes a minute or two."""
    from atelier.bench.memory import CASES, HEAD, predicted, report, row

    print(HEAD)
    rows = []
    for case in CASES:
        found = predicted(case)
        rows.append(report(case, found))
        print(row(case, found), flush=True)
    _write(target, rows)
    return 0


def _write(target: str | None, figures: Any) -> None:
    """The figures as JSON, where a file was asked for."""
    if target:
        Path(target).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


_HEAD = "model  precision checkpointing rank |  bare s   ours s  ratio | first step s  save s  peak MB | parts of ours"


def _row(figures: Any) -> str:
    parts = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in figures.parts_seconds.items())
    return (
        f"{figures.case:<6} {figures.precision:<9} {'on' if figures.gradient_checkpointing else 'off':<13} "
        f"{figures.rank:<4} | {figures.bare_seconds:7.3f}  {figures.step_seconds:7.3f}  {figures.step_ratio:5.3f} | "
        f"{figures.first_step_seconds:12.2f}  {figures.save_seconds:6.2f}  {figures.peak_memory_bytes / 2**20:7.0f} | "
        f"{parts}"
    )


def against(command: list[str], runs: int = 3) -> dict[str, Any]:
    """Whole-process seconds of another command, over `runs` runs."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return {"command": command, "median_seconds": statistics.median(seconds), "seconds": seconds}
