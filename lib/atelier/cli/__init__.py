"""The commands of run.py. Each is a module of its own, which is imported only when it is used."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from atelier import __version__
from atelier.config.errors import AtelierError

COMMANDS = {
    "serve": "start the embedded WebUI with the training tab (the default)",
    "test": "run every test; --quick: those that take seconds; --webui URL --webui-dir DIR: in a running WebUI too",
    "lint": "check rules, format and types of the code, in seconds",
    "mutate": "put faults into a copy of the code, and list those that no test notices",
    "demo": "train the demo subject on the demo base and draw before and after",
    "train": "train from a TOML file, without a browser",
    "import": "show what a kohya TOML, GUI preset or LoRA file asks for, key by key",
    "export": "write the pair of TOML files that kohya's sd-scripts would run",
    "lora": "check, convert, resize, merge and extract LoRA files",
    "bench": "measure our step against the bare UNet loop",
    "report": "print versions, WebUI, card and last errors for a bug report, without anything private",
    "gpu": "check predictions on a GPU: memory, speed, every kind of adapter, in eight minutes",
    "docs": "write the pages of docs/ that are made from the program",
    "build-demo-base": "train the demo base again, from rendered pictures",
}


def main(arguments: Sequence[str]) -> int:
    """Runs a command and gives its exit status: 0 done, 1 it could not be done, 2 the command line is wrong."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Atelier: train inside the WebUI you generate with.",
        epilog="commands:\n" + "\n".join(f"  {name:<16} {text}" for name, text in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"Atelier {__version__}")
    parser.add_argument("command", nargs="?", default="serve", metavar="COMMAND", help="see below")
    if not arguments or arguments[0] not in ("-h", "--help", "--version") and arguments[0].startswith("-"):
        arguments = ["serve", *arguments]
    chosen = parser.parse_args(arguments[:1]).command
    if chosen not in COMMANDS:
        parser.error(f"no command {chosen!r}; the commands are {', '.join(COMMANDS)}")
    module = importlib.import_module(f"atelier.cli.{chosen.replace('-', '_')}_command")
    try:
        return module.run(list(arguments[1:]))
    except AtelierError as error:
        print(f"{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
