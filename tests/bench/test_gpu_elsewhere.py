"""`run.py gpu` with a family that it has never heard of, and where only the packages are that a run needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from atelier.bench.gpu import bases
from atelier.bench.gpu.cases import kinds, memory, speed
from atelier.bench.gpu.machine import Machine
from atelier.models import families as folder

NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "pillow", "numpy", "tomlkit")
FLOW = textwrap.dedent(
    '''
    """A toy: a transformer with a flow, and SD1's text encoder and VAE."""

    import torch
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config
    from torch import nn

    from atelier.models.families.sd1 import FAMILY as SD1, StableDiffusion1
    from atelier.models.family import AdaptableBlocks, Flow, Parts
    from atelier.models.views.view import build_empty


    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.qkv, self.out, self.text = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Linear(32, width)

        def forward(self, x, text):
            q, k, v = self.qkv(torch.cat([x, self.text(text)], 1)).chunk(3, -1)
            return x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))[:, : x.shape[1]]


    class ToyTransformer(ModelMixin, ConfigMixin):
        _supports_gradient_checkpointing = True

        @register_to_config
        def __init__(self, width=8):
            super().__init__()
            self.read, self.write = nn.Linear(5, width), nn.Linear(width, 4)
            self.blocks, self.gradient_checkpointing = nn.ModuleList([Block(width), Block(width)]), False

        def forward(self, latents, sigma, text):
            batch, _, height, width = latents.shape
            x = torch.cat([latents, sigma[:, None, None, None].expand(batch, 1, height, width)], 1)
            x = self.read(x.flatten(2).transpose(1, 2))
            for block in self.blocks:
                x = block(x, text)
            return self.write(x).transpose(1, 2).reshape(batch, 4, height, width)


    class Toy(StableDiffusion1):
        name, title, base_model_version, card_version = "toyflow", "Toy flow", "toy_v1", "Toy"
        flow = Flow(shift=3.0)
        adaptable = AdaptableBlocks(denoiser=frozenset({"Block"}), text=StableDiffusion1.adaptable.text)

        def recognise(self, shapes):
            return False

        def empty(self, small=False):
            lent = SD1.empty(small)
            return Parts(self, build_empty(ToyTransformer, {}), lent.text_encoders, lent.tokenizers, lent.vae)

        def predict(self, parts, latents, times, text, sizes):
            return parts.denoiser(latents, times.float(), text.hidden)

        def units(self, denoiser):
            return list(denoiser.blocks)


    FAMILY = Toy()
    '''
)


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Machine]:
    """A machine, and beside the families of the repository one in a file of its own."""
    place = tmp_path / "families"
    place.mkdir()
    (place / "toyflow.py").write_text(FLOW, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "__path__", [*folder.__path__, str(place)])
        yield Machine(torch.device("cpu"), tmp_path)
    sys.modules.pop("atelier.models.families.toyflow", None)


@pytest.mark.slow
def test_a_new_family_is_measured_without_a_change_of_the_command(
    flow: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bases.all_bases()
    assert [base.name for base in found[:2]] == ["sdxl", "sd1"] and bases.Base("toyflow") in found
    for case in (kinds, memory, speed):
        assert case.all_bases is bases.all_bases
        monkeypatch.setattr(case, "all_bases", lambda: [bases.Base("toyflow")])
    learnt = kinds.run(flow)
    assert learnt.passed and learnt.figures["tried"] >= 2, learnt  # SD 1 with its kinds, and LoRA over the toy
    [row] = speed.run(flow).figures["rows"]
    assert row["model"] == "toyflow" and row["ours"] > 0 and row["bare"] > 0
    [row] = memory.run(flow).figures["rows"]
    assert row["model"] == "toyflow" and row["predicted"] == 0
    assert any("toyflow is not predicted" in note for note in flow.notes)


BLOCKED = textwrap.dedent(
    """
    import json, sys

    class Without:
        def __init__(self, finder):
            self.finder = finder

        def __getattr__(self, name):
            return getattr(self.finder, name)

        def find_spec(self, name, path=None, target=None):
            return None if name.partition(".")[0] in missing else self.finder.find_spec(name, path, target)

    missing = set(json.loads(sys.argv[1]))
    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
    from atelier.cli import main

    sys.exit(main(["gpu", "--out", sys.argv[2], "--only", "kinds,savings"]))
    """
)


def missing_modules() -> list[str]:
    """The modules of all packages here that are not needed, nor are needed by those that are; tomllib, as in 3.10."""
    from importlib import metadata

    from packaging.requirements import Requirement

    def plain(name: str) -> str:
        return name.lower().replace("_", "-")

    modules: dict[str, list[str]] = {}
    for module, packages in metadata.packages_distributions().items():
        for package in packages:
            modules.setdefault(plain(package), []).append(module)
    wanted, kept = list(NEEDED), set()
    while wanted:
        name = plain(wanted.pop())
        if name in kept or name not in modules:
            continue
        kept.add(name)
        asked = [Requirement(text) for text in metadata.requires(name) or []]
        wanted += [one.name for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    there = {module for package in kept for module in modules[package]}
    return sorted({module for found in modules.values() for module in found} - there | {"tomllib"})


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the shapes are the real ones: run.py gpu")
def test_it_runs_with_few_packages_and_tells_what_it_leaves_out(root: Path, tmp_path: Path) -> None:
    missing = missing_modules()
    assert {"gradio", "lycoris", "pytest"} <= set(missing) and not {"torch", "psutil", "yaml"} & set(missing)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BLOCKED, json.dumps(missing), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root / "lib"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    cases = {row["name"]: row for row in json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cases"]}
    assert (
        cases["kinds"]["verdict"] == "holds"
        and "LyCORIS is not installed: only LoRA and LoCon" in cases["kinds"]["notes"]
    )
    assert "bitsandbytes takes no step here: no 8-bit optimizer" in cases["savings"]["notes"]
