"""Lets `python -m atelier.cli` run a command."""

import sys

from atelier.cli import main

sys.exit(main(sys.argv[1:]))
