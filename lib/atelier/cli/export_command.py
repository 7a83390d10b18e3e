"""`run.py export FILE --out DIR`: writes TOML files for kohya's sd-scripts."""

from __future__ import annotations

import argparse
from pathlib import Path


def run(arguments: list[str]) -> int:
    """Returns 0. Raises `AtelierError` for a file that cannot be used."""
    parser = argparse.ArgumentParser(prog="run.py export", description=__doc__)
    parser.add_argument("file", help="a training TOML, a GUI preset, a LoRA file, or the request.json of a run")
    parser.add_argument("--out", default=".", help="folder for the files (default: this one)")
    parser.add_argument("--base", help="the checkpoint to name when the file names none")
    options = parser.parse_args(arguments)

    from atelier.config.imports.importer import read_any
    from atelier.config.kohya.exporter import export_job

    job = read_any(Path(options.file)).job()
    if not job.settings.output_name:
        job.settings.output_name = Path(options.file).stem
    written = export_job(job, Path(options.out), options.base)
    for path in (written.training, written.dataset, written.prompts):
        if path is not None:
            print(f"Wrote {path}")
    for sentence in written.missing:
        print(f"Still needed: {sentence}")
    print(f"Start it with: {written.command}")
    return 0
