"""`run.py build-demo-base`: trains the demo base from rendered pictures."""

from __future__ import annotations

import argparse


def run(arguments: list[str]) -> int:
    """Writes the base into --out. Takes at most twenty minutes of CPU time."""
    parser = argparse.ArgumentParser(prog="run.py build-demo-base", description=__doc__)
    parser.add_argument("--out", default="demo-base", help="folder for the new base (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads to use (default: %(default)s)")
    options = parser.parse_args(arguments)
    from atelier.demo.build_base import main

    main(options.out, options.threads)
    return 0
