"""`run.py bench`: compares our training step with the bare UNet loop, and measures memory and the parts of a step."""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atelier.bench.steps import Case


def options(arguments: list[str]) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    parser.add_argument("--models", type=_models, default="demo,sd15,sdxl", help="models (default: %(default)s)")
    parser.add_argument("--precisions", type=_precisions, default="no,bf16", help="precisions (default: %(default)s)")
    parser.add_argument("--ranks", type=_ranks, default="8,64", help="ranks of the LoRA (default: %(default)s)")
    parser.add_argument(
        "--checkpointing", choices=("off", "on", "both"), default="both",
        help="gradient checkpointing (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--pairs", type=int, default=0, help="pairs of steps (default: 30 for demo, 4 for the others)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--against", metavar="COMMAND", help="time this command in turn with our own training")
    parser.add_argument("--choices", action="store_true", help="time the bare loop with and without torch's options")
    parser.add_argument("--memory", action="store_true", help="print the predicted memory of a LoRA step on a GPU")
    parser.add_argument("--soak", action="store_true", help="check that memory stays flat over many steps and runs")
    parser.add_argument("--steps", type=int, default=2000, help="steps of the soak's long run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=200, help="number of the soak's short runs (default: %(default)s)")
    return parser.parse_args(arguments)


def run(arguments: list[str]) -> int:
    """Prints a table, and writes --json. Gives 0; 1 when the soak finds that something grew."""
    import torch

    asked = options(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.soak:
        return _soak(asked.steps, asked.runs, asked.json)
    if asked.memory:
        return _memory(asked.json)
    if asked.choices:
        return _choices(asked)

    from atelier.bench.apart import apart
    from atelier.bench.steps import Figures, measure

    results: list[Figures] = []
    print(_HEAD)
    for case in cases(asked):
        figures = apart(measure, case, asked.pairs or _pairs(case))
        results.append(figures)
        print(_row(figures), flush=True)
    report: dict[str, Any] = {
        "step_ratio": statistics.median([figures.step_ratio for figures in results]),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cases": [figures.to_dict() for figures in results],
    }
    if asked.against:
        report["against"] = found = against(shlex.split(asked.against))
        print(f"ours {found['our_seconds']:.1f} s, theirs {found['their_seconds']:.1f} s, ratio {found['ratio']:.3f}")
    print(f"step_ratio (median of the cases): {report['step_ratio']:.3f}")
    _write(asked.json, report)
    return 0


def cases(asked: argparse.Namespace) -> list[Case]:
    """Every combination of what was asked for."""
    from atelier.bench.models import SHAPES
    from atelier.bench.steps import Case

    checkpointing = {"off": [False], "on": [True], "both": [False, True]}[asked.checkpointing]
    every = product(asked.models, asked.precisions, checkpointing, asked.ranks)
    return [Case(SHAPES[name], precision, saves, rank) for name, precision, saves, rank in every]


def _models(listed: str) -> list[str]:
    return _words(listed, ("demo", "sd15", "sdxl"))


def _precisions(listed: str) -> list[str]:
    return _words(listed, ("no", "bf16"))


def _ranks(listed: str) -> list[int]:
    ranks = [int(word) for word in listed.split(",")]
    if min(ranks) < 1:
        raise ValueError("a rank is 1 or more")
    return ranks


def _words(listed: str, known: tuple[str, ...]) -> list[str]:
    """The words of a list with commas. Raises argparse's error for one that is not known."""
    words = [word.strip() for word in listed.split(",")]
    for word in words:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is not one of {', '.join(known)}")
    return words


def _pairs(case: Case) -> int:
    return 30 if case.shape.name == "demo" else 4


def _choices(asked: argparse.Namespace) -> int:
    """What a choice brings is seen without savings, at one rank."""
    from atelier.bench.apart import apart
    from atelier.bench.choices import WAYS, measure_choice
    from atelier.bench.models import SHAPES
    from atelier.bench.steps import Case

    print(_CHOICES_HEAD)
    found = []
    for name, precision, way in product(asked.models, asked.precisions, WAYS):
        case = Case(SHAPES[name], precision)
        found.append(apart(measure_choice, way.name, case, asked.pairs or _pairs(case)))
        print(found[-1], flush=True)
    _write(asked.json, [figures.to_dict() for figures in found])
    return 0


def _soak(steps: int, runs: int, target: str | None) -> int:
    """Gives 1 when something grew."""
    from atelier.bench.soak import soak_runs, soak_steps

    found = []
    for soak, count in ((soak_steps, steps), (soak_runs, runs)):
        if count:
            found.append(soak(count))
            print(found[-1], flush=True)
    _write(target, [soaked.to_dict() for soaked in found])
    return 0 if all(soaked.flat for soaked in found) else 1


def _memory(target: str | None) -> int:
    """Prints the table of predictions; needs no GPU, takes a minute or two."""
    from atelier.bench.memory import CASES, HEAD, VAE_HEAD, predicted, report, row, vae_rows

    print(HEAD)
    rows = []
    for case in CASES:
        found = predicted(case)
        rows.append(report(case, found))
        print(row(case, found), flush=True)
    print("\n".join(["", VAE_HEAD, *vae_rows()]))
    _write(target, rows)
    return 0


def _write(target: str | None, figures: Any) -> None:
    """The figures as JSON, where a file was asked for."""
    if target:
        Path(target).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


_CHOICES_HEAD = "model  precision choice                           | plain s   with s  ratio | once s"
_HEAD = "model  precision checkpointing rank |  bare s   ours s  ratio | first step s  save s  peak MB | parts of ours"


def _row(figures: Any) -> str:
    parts = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in figures.parts_seconds.items())
    return (
        f"{figures.case:<6} {figures.precision:<9} {'on' if figures.gradient_checkpointing else 'off':<13} "
        f"{figures.rank:<4} | {figures.bare_seconds:7.3f}  {figures.step_seconds:7.3f}  {figures.step_ratio:5.3f} | "
        f"{figures.first_step_seconds:12.2f}  {figures.save_seconds:6.2f}  {figures.peak_memory_bytes / 2**20:7.0f} | "
        f"{parts}"
    )


def against(command: list[str], runs: int = 3, steps: int = 50) -> dict[str, Any]:
    """Whole processes, from start to end, in turn: a LoRA of `steps` steps on the demo base, and another command.

    Raises `CalledProcessError` when either fails: a command that ends early is not fast.
    """
    from atelier.bench.steps import timed
    from atelier.hosts.embedded.host import DEMO_BASE

    def whole(words: list[str]) -> float:
        return timed(lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL))

    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        asked = Path(folder) / "ours.toml"
        pictures = (DEMO_BASE.parent / "subject").as_posix()
        asked.write_text(
            f'pretrained_model_name_or_path = "{DEMO_BASE.as_posix()}"\ntrain_data_dir = "{pictures}"\n'
            f'output_name = "bench"\nmax_train_steps = {steps}\nresolution = "64,64"\nnetwork_dim = 8\nseed = 0\n',
            encoding="utf-8",
        )
        run = Path(__file__).resolve().parents[3] / "run.py"
        ours = [sys.executable, str(run), "train", str(asked), "--data-dir", str(Path(folder) / "data")]
        both = [(whole(ours), whole(command)) for _ in range(runs)]
    return {
        "command": command,
        "our_command": f"run.py train, {steps} steps on the demo base",
        "our_seconds": statistics.median([our for our, _ in both]),
        "their_seconds": statistics.median([their for _, their in both]),
        "ratio": statistics.median([our / their for our, their in both]),
    }
