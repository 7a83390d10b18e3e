"""Every setting of the schema reaches something that can be seen: a table says what, and two values of it show it.

Settings that a table of `config.verdicts` does not call honoured are not in it. Those that a run alone does not show
are in `ELSEWHERE`, with what a command or a plan makes of two values.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from atelier.adapters.config import NetworkConfig
from atelier.adapters.network import build
from atelier.config.kohya.verdicts import HONOURED, training_verdict
from atelier.config.settings.schema import options
from atelier.training.inputs import latents as latents_module
from tests.support.cases.elsewhere import ELSEWHERE
from tests.support.cases.in_runs import CASES, Seen
from tests.support.training_fakes import SIDE, TinyHost, run, tiny_job, tiny_parts

pytestmark = pytest.mark.slow

# -- the runs ----------------------------------------------------------------------------------------------------------


class Bench:
    """The pictures and files that the cases speak of, and the runs that were made, so that a base is run once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.words = {name: str(root / name.strip("<>")) for name in ("<others>", "<masks>", "<elsewhere>")}
        self.words["<vae>"] = str(root / "other.vae.safetensors")
        self.words |= {"<lora>": str(root / "lora.safetensors"), "<captions>": str(root / "captions.json")}
        sizes = [(SIDE, SIDE), (48, 32), (64, 64), (24, 24)]
        captions = {}
        for number, size in enumerate(sizes):
            path = draw(root / "pictures", number, size, "RGBA")
            text = f"zwx ||| colour {number}, soft; round, {{one|two}}, (bright:1.5), noise, old"
            path.with_suffix(".txt").write_text(text, encoding="utf-8")
            path.with_suffix(".caption").write_text(f"another text {number}", encoding="utf-8")
            captions[path.stem] = {"caption": f"from a file, {number}"}
            draw(root / "others", 10 + number, (SIDE, SIDE), "RGB")
            draw(root / "masks", number, size, "L")
        (root / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
        write_vae(Path(self.words["<vae>"]))
        network = build(tiny_parts(), NetworkConfig(dim=3, alpha=1.0, text_encoders=False), 3)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1)
        save_file(network.state_tensors(torch.float32), self.words["<lora>"])
        self.runs: dict[str, Seen] = {}

    def see(self, **settings: Any) -> Seen:
        key = repr(sorted(settings.items()))
        if key not in self.runs:
            with pytest.MonkeyPatch.context() as patch:
                self.runs[key] = self._run(patch, settings)
            gc.freeze()  # the models of the runs that are kept need not be searched for garbage at every later run
        return self.runs[key]

    def _run(self, patch: pytest.MonkeyPatch, settings: dict[str, Any]) -> Seen:
        asked = {"max_train_steps": 2, **{key: self._meant(value) for key, value in settings.items()}}
        pictures = Path(asked.pop("train_data_dir", self.root / "pictures"))
        encoded: Counter[int] = Counter()
        again = [0]
        posterior, checkpoint = latents_module.posterior, torch.utils.checkpoint.checkpoint

        def noted(family: Any, vae: Any, pixels: torch.Tensor) -> Any:
            encoded[pixels.shape[0]] += 1
            return posterior(family, vae, pixels)

        def counted(*arguments: Any, **more: Any) -> Any:
            again[0] += 1
            return checkpoint(*arguments, **more)

        patch.setattr(latents_module, "posterior", noted)
        patch.setattr(torch.utils.checkpoint, "checkpoint", counted)
        number = len(self.runs)
        host = TinyHost(self.root / f"run{number}")
        done = run(tiny_job(pictures, **asked), host.folders.root, host=host)
        return Seen(done, encoded, again[0])

    def _meant(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._meant(item) for item in value]
        return self.words.get(value, value) if isinstance(value, str) else value


def draw(folder: Path, number: int, size: tuple[int, int], mode: str) -> Path:
    """A picture of noise, half of it transparent where `mode` has alpha."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = numpy.random.default_rng(number).integers(0, 255, (size[1], size[0], 4)).astype("uint8")
    pixels[: size[1] // 2, :, 3] = 0
    path = folder / f"picture{number % 10}.png"
    Image.fromarray(pixels, "RGBA").convert(mode).save(path)
    return path


def write_vae(path: Path) -> Path:
    """A VAE with other weights than the base's own."""
    vae = tiny_parts().vae
    assert vae is not None
    save_file({name: tensor * 1.1 for name, tensor in vae.state_dict().items()}, path)
    (path.parent / "config.json").write_text(json.dumps(dict(vae.config)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("key", CASES)
def test_the_setting_is_seen(key: str, bench: Bench) -> None:
    case = CASES[key]
    assert key in case.changes
    without = bench.see(**case.base)
    having = bench.see(**{**case.base, **case.changes})
    assert case.see(without) != case.see(having)


@pytest.mark.parametrize("key", ELSEWHERE)
def test_the_setting_is_seen_elsewhere(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = ELSEWHERE[key](tmp_path, monkeypatch)
    assert one != two


def test_the_table_holds_every_setting() -> None:
    wanted = set()
    for option in options():
        if training_verdict(option.key).verdict == HONOURED:
            wanted.add(option.key)
    assert set(CASES) | set(ELSEWHERE) == wanted and not set(CASES) & set(ELSEWHERE)
