"""`run.py serve`: the embedded WebUI with the training tab."""

from __future__ import annotations

import argparse
from pathlib import Path

from atelier import __version__


def run(arguments: list[str]) -> int:
    """Serves until interrupted. Gives 0, or 1 when the port is taken."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("--ckpt", help="a checkpoint (.safetensors, .ckpt or diffusers folder) to load at the start")
    parser.add_argument("--data-dir", default="data", help="folder for models, LoRAs and runs (default: data)")
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="address to listen on")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: the first GPU, else the CPU)")
    options = parser.parse_args(arguments)

    from fastapi import FastAPI

    from atelier.cli.shared.torch_build import unused_card
    from atelier.hosts.embedded.host import EmbeddedHost
    from atelier.hosts.embedded.server import serve
    from atelier.jobs.current import current
    from atelier.training.run import train
    from atelier.ui.server.routes import Access, register
    from atelier.ui.tab.tab import build

    host = EmbeddedHost(Path(options.data_dir).expanduser(), options.ckpt, options.device)
    jobs = current(host, train)
    local = options.listen in ("127.0.0.1", "localhost", "::1")

    def on_app(app: FastAPI) -> None:
        register(app, jobs, host, Access(paths=local))

    told = unused_card()
    if told is not None:
        print(told, flush=True)
    print(f"[Atelier] {__version__}, with a WebUI of its own. Loading …", flush=True)
    try:
        tabs = [("Train", "atelier", lambda: build(jobs, host, paths=local))]
        serve(host, tabs, options.listen, options.port, on_app, on_end=lambda: jobs.close(timeout=30))
    except OSError as error:
        print(f"Port {options.port} cannot be used ({error.strerror or error}). Choose another with --port.")
        return 1
    finally:
        jobs.close(timeout=30)
    return 0
