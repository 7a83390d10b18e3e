"""Damaged and hostile input by the thousand: each gives something or one sentence, in time, and writes nothing.

    python tests/hostile/fuzz.py --cases 20000 [--seed 1] [--only "caption,state"] [--out DIR]

Inputs that are answered in a way not seen before become examples to change further. Ends with 1 when something was
answered wrongly; the input is then in DIR, as is that of a case that hangs, on which the process ends at once.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from atelier.config.errors import AtelierError
from tests.hostile.fuzz_mutations import mutated
from tests.hostile.fuzz_targets import Target, targets

LONGEST = 5.0
"""Seconds that any input may take."""
OURS = str(Path("lib") / "atelier")
KEPT = 500
"""Examples of a target at most."""
VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|[\d.]+|\S*/\S*")


class Fuzzed:
    """One target under fire."""

    def __init__(self, target: Target, seed: int, folder: Path, out: Path) -> None:
        self.target = target
        self.faults: list[str] = []
        self.answers: Counter[str] = Counter()
        self.slowest = 0.0
        self._draws = random.Random(f"{seed}/{target.name}")
        self._examples = list(target.seeds)
        self._path = folder / f"any{target.suffix}"
        self._out = out

    def run(self, cases: int) -> None:
        for example in self.target.seeds:
            self.case(example)
        is_text = self.target.suffix in (".toml", ".json", ".txt")
        for _ in range(cases):
            self.case(mutated(self._draws, self._examples, is_text))

    def case(self, content: bytes) -> None:
        """Looks into one input; notes what came of it."""
        folder = self._path.parent
        self._path.write_bytes(content)
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        started = time.monotonic()
        answer = self._answer()
        faulthandler.cancel_dump_traceback_later()
        self.slowest = max(self.slowest, time.monotonic() - started)
        answer = VALUES.sub("…", answer[:300])
        left = [entry.name for entry in folder.iterdir() if entry.name != self._path.name]
        if left:
            self._fault(content, f"left {left}")
        if answer not in self.answers and len(self._examples) < KEPT:
            self._examples.append(content)
        self.answers[answer] += 1

    def _answer(self) -> str:
        """What it was answered."""
        try:
            given = self.target.look(self._path)
        except AtelierError as error:
            sentence = str(error)
            if not sentence.strip() or "Traceback" in sentence:
                self._fault(self._path.read_bytes(), f"no sentence: {sentence!r}")
            return f"sentence: {sentence}"
        except self.target.allowed as error:
            return f"{type(error).__name__}"
        except Exception as error:  # noqa: BLE001 - the fault that is looked for
            ours = [frame for frame in traceback.extract_tb(error.__traceback__) if OURS in frame.filename]
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "the fuzzer"
            self._fault(self._path.read_bytes(), f"{type(error).__name__} at {place}: {error}")
            return f"{type(error).__name__} at {place}"
        return f"gave {type(given).__name__}"

    def _fault(self, content: bytes, what: str) -> None:
        """Notes a fault, one of each kind."""
        kind = what.split(": ")[0]
        if not any(f": {kind}" in fault for fault in self.faults):
            name = f"{re.sub('[^a-z0-9]+', '-', self.target.name.lower())}-{len(self.faults)}{self.target.suffix}"
            (self._out / name).write_bytes(content)
            self.faults.append(f"{name}: {what}"[:300])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=1000, help="inputs for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="targets whose names have one of these words")
    parser.add_argument("--answers", action="store_true", help="print each kind of answer")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "atelier-fuzz")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    words = [word.strip().lower() for word in asked.only.split(",") if word.strip()]
    faults = 0
    with tempfile.TemporaryDirectory(prefix="atelier-fuzz-") as name:
        beside = Path(name) / "beside"
        beside.mkdir()
        for target in targets(beside):
            if words and not any(word in target.name.lower() for word in words):
                continue
            folder = Path(tempfile.mkdtemp(dir=name))
            fuzzed = Fuzzed(target, asked.seed, folder, asked.out)
            fuzzed.run(asked.cases)
            gave = sum(count for answer, count in fuzzed.answers.items() if answer.startswith("gave"))
            print(
                f"{target.name:<24} {sum(fuzzed.answers.values()):>7} inputs, {gave:>7} usable, "
                f"{len(fuzzed.answers):>4} answers, slowest {fuzzed.slowest:.2f} s, {len(fuzzed.faults)} faults",
                flush=True,
            )
            for answer, count in fuzzed.answers.most_common() if asked.answers else ():
                print(f"  {count:>7} {answer}")
            for fault in fuzzed.faults:
                print(f"  {fault}", flush=True)
            faults += len(fuzzed.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
