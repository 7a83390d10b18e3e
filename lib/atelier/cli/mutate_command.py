"""`run.py mutate`: puts single-line faults into the code, and lists those that the near tests do not notice.

It works in a copy of the checkout, in the folder for temporary files. Tests that are slow, drive a browser or need a
running WebUI are left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from atelier.bench.mutate import UNNOTICED, Mutants, Trial, chosen, copied, cosmic_mutants
from atelier.cli.test_command import QUICK, ROOT
from atelier.config.errors import AtelierError


def options(arguments: list[str]) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog="run.py mutate", description=__doc__)
    parser.add_argument(
        "--files", nargs="+", default=["lib/atelier"], metavar="PATH", help="files or folders of the code"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed picks the same faults (default: %(default)s)"
    )
    parser.add_argument("--most", type=int, default=100, metavar="N", help="how many faults (default: %(default)s)")
    parser.add_argument("--python", default=sys.executable, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(arguments: list[str], root: Path = ROOT, mutants: Mutants = cosmic_mutants) -> int:
    """Prints each fault with what became of it, and at the end those that no test noticed. Gives 0: it is a measure."""
    asked = options(arguments)
    files: set[Path] = set()
    for name in asked.files:
        path = root / name
        found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        if not path.exists() or not all(file.resolve().is_relative_to(root.resolve() / "lib") for file in found):
            raise AtelierError(f"--files {name}: no file or folder below lib/ of this checkout.")
        files.update(found)
    texts = {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}
    counts: Counter[str] = Counter()
    told = []
    with tempfile.TemporaryDirectory(prefix="atelier-mutate-") as folder:
        trial = Trial(copied(root, Path(folder).resolve()), asked.python, ["-m", QUICK])
        for fault in chosen(texts, asked.most, asked.seed, mutants):
            outcome = trial.of(fault)
            counts[outcome] += 1
            print(f"{outcome}: {fault}", flush=True)
            if outcome == UNNOTICED:
                told.append(fault)
    print(f"{sum(counts.values())} faults: {', '.join(f'{count} {what}' for what, count in sorted(counts.items()))}")
    for fault in told:
        print(fault)
    return 0
