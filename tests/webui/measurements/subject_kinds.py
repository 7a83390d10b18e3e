"""Draws the demo subject in a running WebUI with ready LoRA files, one of each kind, and reads how they load there.

    python tests/webui/measurements/subject_kinds.py URL DIR OUT.png FILE.safetensors ...

URL and DIR as for run.py test; a model of the shapes that the demo's base knows has to be loaded. The files are copied
into the WebUI's folder for LoRAs and taken out again. For each: how many of its layers the WebUI has taken, or the keys
that it left, the largest difference between its UNet and the trainer's with the file on, and the similarity of the
pictures to the training pictures (atelier.demo.measure.subject_similarity).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "lib")]

from atelier.cli.demo.pictures import SEEDS, sheet, subject_pictures  # noqa: E402
from atelier.demo.measure import mean_similarity  # noqa: E402
from tests.webui.hosts import WebUI  # noqa: E402
from tests.webui.measurements.subject import SUBJECT, drawn  # noqa: E402
from tests.webui.own import SCRIPT  # noqa: E402
from tests.webui.probe import probed  # noqa: E402


@contextmanager
def listed(webui: WebUI, files: Sequence[Path]) -> Iterator[None]:
    """The files are in the WebUI's list of LoRAs."""
    copies = [webui.loras / file.name for file in files]
    try:
        for file, copy in zip(files, copies):
            shutil.copyfile(file, copy)
        assert webui.ask(webui.kind.loras_refreshed, {}).status == 200
        yield
    finally:
        for copy in copies:
            copy.unlink(missing_ok=True)
        webui.ask(webui.kind.loras_refreshed, {})


def loads(webui: WebUI, name: str) -> str:
    """How the WebUI takes the file, in one line."""
    worn = webui.ask(f"/atelier-test-worn?name={name}")
    if worn.status != 200:
        return f"not read: {worn}"
    taken = f"{worn['layers']} of {worn['our_layers']} layers" if worn["left"] is None else f"left {worn['left']}"
    return f"{taken}; UNet {worn['unet']['difference']:.1e} of a change of {worn['unet_changed']:.2g}"


def main(address: str, folder: str, out: str, *names: str) -> None:
    """Prints a line for each file, and writes one sheet of all pictures."""
    webui, files = WebUI(address, Path(folder)), [Path(name) for name in names]
    pictures = subject_pictures()
    plain = drawn(webui, SUBJECT, SEEDS)
    print(f"without a LoRA: similarity {mean_similarity(plain, pictures):.3f}", flush=True)
    rows = {"training pictures": pictures[:6], "without a LoRA: " + "; ".join(SUBJECT): plain}
    with listed(webui, files), probed(webui, SCRIPT):
        for file in files:
            how = loads(webui, file.stem)
            learnt = drawn(webui, SUBJECT, SEEDS, f"<lora:{file.stem}:1>")
            similarity = mean_similarity(learnt, pictures)
            print(f"{file.stem}: similarity {similarity:.3f}; {how}", flush=True)
            rows[f"{file.stem}, {similarity:.2f}"] = learnt
    sheet(list(rows.values()), list(rows)).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
