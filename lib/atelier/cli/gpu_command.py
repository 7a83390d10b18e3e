"""`run.py gpu --out DIR`: checks on this machine's GPU, in a few minutes, what was predicted without one."""

from __future__ import annotations

import argparse
import faulthandler
import os
import tempfile
from pathlib import Path

from atelier.config.errors import AtelierError

GRACE = 120.0
"""Seconds after its minutes at which the command is ended from outside its cases."""


def options(arguments: list[str]) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog="run.py gpu", description=__doc__)
    parser.add_argument("--out", required=True, help="folder for report.json; made if it is missing")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="ends by itself within this time (default: %(default)s)"
    )
    parser.add_argument("--only", metavar="NAME,…", default="", help="run only these cases")
    parser.add_argument(
        "--against",
        metavar="COMMAND",
        default="",
        help="another trainer's command, timed in turn with ours. {model}, {pictures}, {steps}, {rank}, {side}, {out} "
        "and {config} in it stand for the base as a file, the folder of pictures, our settings, a folder of its own, "
        "and our settings as a TOML for sd-scripts",
    )
    parser.add_argument("--list", action="store_true", help="only list the cases")
    return parser.parse_args(arguments)


def run(arguments: list[str]) -> int:
    """Gives 0, or 1 when a case was refuted or failed."""
    asked = options(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from atelier.bench.gpu.case import all_cases
    from atelier.bench.gpu.machine import this_machine
    from atelier.bench.gpu.report import run_cases

    cases = all_cases()
    if asked.list:
        print("\n".join(f"{case.name:<16} {case.asks}" for case in cases))
        return 0
    if asked.only:
        names = [name.strip() for name in asked.only.split(",") if name.strip()]
        unknown = set(names) - {case.name for case in cases}
        if unknown:
            known = ", ".join(case.name for case in cases)
            raise AtelierError(f"There is no case {', '.join(sorted(unknown))}. There are {known}.")
        cases = [case for case in cases if case.name in names]
    out = Path(asked.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="atelier-gpu-") as folder:
        machine = this_machine(Path(folder), asked.against)
        if machine.is_gpu:  # a kernel that hangs must not hang the command: what was found until then is written
            faulthandler.dump_traceback_later(60 * asked.minutes + GRACE, exit=True)
        report = run_cases(cases, machine, out / "report.json", asked.minutes, lambda line: print(line, flush=True))
    faulthandler.cancel_dump_traceback_later()
    print(f"See {out / 'report.json'}.")
    return 1 if any(row["verdict"] in ("REFUTED", "FAILED") for row in report["cases"]) else 0
