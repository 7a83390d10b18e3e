"""`run.py report`: prints versions, WebUI, card and the last errors for a bug report, without anything private.

It needs no package: facts that need a missing package are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from atelier.config.errors import AtelierError


def run(arguments: list[str]) -> int:
    """Prints the report, or writes it into a file. Gives 0."""
    parser = argparse.ArgumentParser(prog="run.py report", description=__doc__)
    parser.add_argument("--out", metavar="FILE", help="file to write to (default: the console)")
    parser.add_argument("--data-dir", default="data", help="folder with the runs (default: data)")
    options = parser.parse_args(arguments)

    from atelier.report import machine
    from atelier.report.report import report

    webui = machine.webui_folder()
    runs = [Path(options.data_dir).expanduser() / "runs"]
    if webui is not None:
        runs.append(webui / "atelier" / "runs")
    text = report(runs, machine.webui_line(webui), machine.launch_arguments())
    if options.out is None:
        print(text, end="")
        return 0
    try:
        Path(options.out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise AtelierError(f"{options.out} cannot be written: {error.strerror}.") from error
    print(f"Wrote {options.out}. Please read it before you post it.")
    return 0
