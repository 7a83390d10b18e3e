"""The report of a run of cases: a file that is whole after each of them, and a line each for whoever watches."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atelier.bench.gpu.case import Case, Found, LeftOut
from atelier.bench.gpu.machine import Machine

HEAD = f"{'case':<16} {'':<9} {'seconds':>7}  "
PATIENCE = 2.0
"""So many times what a case takes on a fast GPU it may take before it leaves out what is left of it."""
WORDS = {True: "holds", False: "REFUTED", None: "measured"}


def run_cases(
    cases: Sequence[Case],
    machine: Machine,
    file: Path,
    minutes: float,
    say: Callable[[str], None] = print,
    now: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Runs as many of `cases` as fit into `minutes`, in their order, and gives the report.

    One that fails is a finding, too: what it raised stands in the report, and the next one begins on an empty device.
    `file` is written anew after each, and beside it a table of the same name.
    """
    begun = now()
    report: dict[str, Any] = {"machine": machine.described(), "minutes": minutes, "cases": []}
    if not machine.is_gpu:
        say("There is no GPU here: the cases run on small shapes on the CPU, which proves that they run, and no more.")
    say(" ".join(f"{key} {value}" for key, value in report["machine"].items() if value is not None))
    say(HEAD)
    for case in cases:
        left = 60 * minutes - (now() - begun)
        if machine.is_gpu and left < case.seconds:
            row = _row(case, "left out", 0.0, f"{max(0.0, left):.0f} s are left, it takes some {case.seconds:.0f}")
        else:
            # A slow device, too, comes to the last cases: none takes much more than its share.
            machine.until = time.monotonic() + min(left, PATIENCE * case.seconds)
            row = _run(case, machine, now)
        report["cases"].append(row)
        file.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
        file.with_suffix(".md").write_text(table(report), encoding="utf-8")
        say(f"{row['name']:<16} {row['verdict']:<9} {row['seconds']:>7.1f}  {row['says']}")
        for note in row.get("notes", ()):
            say(f"{'':<16} {'':<9} {'':>7}  {note}")
    return report


def table(report: Mapping[str, Any]) -> str:
    """The report as Markdown, for docs/performance.md."""
    machine = ", ".join(f"{key} {value}" for key, value in report["machine"].items() if value is not None)
    lines = [machine, "", "| case | verdict | seconds | |", "|---|---|---|---|"]
    for row in report["cases"]:
        says = "; ".join([row["says"], *row.get("notes", ())]).replace("|", "/").replace("\n", " ")
        lines.append(f"| `{row['name']}` | {row['verdict']} | {row['seconds']:.1f} | {says} |")
    return "\n".join(lines) + "\n"


def _run(case: Case, machine: Machine, now: Callable[[], float]) -> dict[str, Any]:
    begun = now()
    machine.notes.clear()
    try:
        machine.free_everything()
        found: Found = case.run(machine)
    except LeftOut as why:
        return _row(case, "left out", now() - begun, str(why))
    except Exception as error:  # noqa: BLE001 - a device can fail in any way; what it says is the finding
        row = _row(case, "FAILED", now() - begun, f"{type(error).__name__}: {error}".split("\n")[0])
        return {**row, "traceback": traceback.format_exc()}
    finally:
        machine.free_everything()
    row = _row(case, WORDS[found.passed], now() - begun, found.says)
    return {**row, "figures": dict(found.figures), "notes": list(machine.notes)}


def _row(case: Case, verdict: str, seconds: float, says: str) -> dict[str, Any]:
    return {"name": case.name, "asks": case.asks, "verdict": verdict, "seconds": seconds, "says": says}
