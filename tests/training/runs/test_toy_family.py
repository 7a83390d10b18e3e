"""A family in one file: a small transformer with a rectified flow, found by looking, trained, drawn and resumed."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from atelier.jobs.control import Control
from atelier.models import families as folder
from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.family import Parts
from atelier.models.registry import families, family_named, recognise
from atelier.models.views.view import alias, view_of
from atelier.training.context import noise_process
from atelier.training.objective.flow import RectifiedFlow
from tests.support.training_fakes import MemoryRecord, TinyHost, assert_same, run, tiny_job, tiny_parts, write_pictures

TOY = textwrap.dedent(
    '''
    """A toy: one transformer block over patches, a flow with a shift, SD1's text encoder and VAE."""

    import torch
    from torch import nn

    from atelier.models.family import AdaptableBlocks, Flow, Parts
    from atelier.models.families.sd1 import StableDiffusion1


    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out, self.text = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(32, 8)

        def forward(self, x, text):
            q, k, v = self.qkv(torch.cat([x, self.text(text)], 1)).chunk(3, -1)
            return x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))[:, : x.shape[1]]


    class ToyTransformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.read, self.blocks, self.write = nn.Linear(5, 8), nn.ModuleList([Block(), Block()]), nn.Linear(8, 4)

        def forward(self, latents, sigma, text):
            batch, _, height, width = latents.shape
            x = torch.cat([latents, sigma[:, None, None, None].expand(batch, 1, height, width)], 1)
            x = self.read(x.flatten(2).transpose(1, 2))
            for block in self.blocks:
                x = block(x, text)
            return self.write(x).transpose(1, 2).reshape(batch, 4, height, width)


    class Toy(StableDiffusion1):
        name, title, base_model_version, card_version = "toy", "Toy flow", "toy_v1", "Toy"
        resolution, flow = 32, Flow(shift=3.0)
        adaptable = AdaptableBlocks(denoiser=frozenset({"Block"}), text=StableDiffusion1.adaptable.text)

        def recognise(self, shapes):
            return "toy.read.weight" in shapes

        def load(self, file, wanted, convert):
            transformer = ToyTransformer()
            weights = {name.removeprefix("toy."): convert(file.read(name)) for name in file.shapes}
            transformer.load_state_dict(weights)
            return Parts(self, transformer.requires_grad_(False).eval())

        def predict(self, parts, latents, times, text, sizes):
            return parts.denoiser(latents, times.float(), text.hidden)

        def units(self, denoiser):
            return list(denoiser.blocks)


    FAMILY = Toy()
    '''
)
SETTINGS: dict[str, Any] = {
    "max_train_steps": 4, "sample_every_n_steps": 2, "sample_prompts": "a cat --s 2 --w 32 --h 32",
    "validation_split": 0.5, "validate_every_n_steps": 2, "alpha_mask": False,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The one file, and nothing else, in a folder that `models/families` looks into as well."""
    place = tmp_path_factory.mktemp("families")
    (place / "toy.py").write_text(TOY, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "__path__", [*folder.__path__, str(place)])
        yield place


def toy_parts() -> Parts:
    module = __import__("atelier.models.families.toy", fromlist=["ToyTransformer"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        transformer = module.ToyTransformer().requires_grad_(False).eval()
    parts = tiny_parts()
    return Parts(module.FAMILY, transformer, parts.text_encoders, parts.tokenizers, parts.vae)


class ToyHost(TinyHost):
    """Lends the toy as it is: its modules have no configuration to make views from."""

    def lease(self, parts: frozenset[str]) -> Any:
        lent = super().lease(parts)
        lent._view = lambda whole: replace(
            whole,
            denoiser=over_the_same_memory(whole.denoiser),
            text_encoders=[view_of(encoder) for encoder in whole.text_encoders],
            vae=view_of(whole.vae),
        )
        return lent


def over_the_same_memory(module: torch.nn.Module) -> torch.nn.Module:
    """A copy whose parameters are aliases of the module's own."""
    own = dict(module.named_parameters())
    found = copy.deepcopy(module)
    for name, parameter in found.named_parameters():
        parameter.data = alias(own[name])
    return found


def test_it_is_found_and_recognised(tmp_path: Path) -> None:
    assert [family.name for family in families()] == ["sd1", "sd2", "sdxl", "toy", "z_image"]
    tensors = {f"toy.{name}": tensor for name, tensor in toy_parts().denoiser.state_dict().items()}
    assert recognise({name: tuple(tensor.shape) for name, tensor in tensors.items()}) is family_named("toy")
    save_file(tensors, str(tmp_path / "toy.safetensors"))
    loaded = load_checkpoint(tmp_path / "toy.safetensors")
    assert loaded.info.family == "toy"
    assert_same(loaded.parts.denoiser.state_dict(), toy_parts().denoiser.state_dict())
    process = noise_process(tiny_job(tmp_path).settings, toy_parts())
    assert isinstance(process, RectifiedFlow) and process.flow.shift == 3.0


def test_it_trains_draws_validates_and_resumes(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 4)
    straight = run(tiny_job(pictures, **SETTINGS), tmp_path / "a", host=ToyHost(tmp_path / "a", toy_parts()))
    assert straight.outcome.state == "done" and len(straight.record.pictures) == 2
    assert "lora_unet_blocks_1_qkv.lora_up.weight" in straight.tensors
    moved = {name for name, tensor in straight.tensors.items() if "lora_up" in name and bool(tensor.abs().max() > 0)}
    assert {name.split("_")[1] for name in moved} == {"unet", "te"}
    assert straight.metadata["ss_base_model_version"] == "toy_v1"
    assert straight.metadata["ss_weighting_scheme"] == "none"

    def stop(step: int, control: Control) -> None:
        if step == 2:
            control.stop()

    first = run(tiny_job(pictures, **SETTINGS), tmp_path / "b", stop, ToyHost(tmp_path / "b", toy_parts()))
    second = run(
        tiny_job(pictures, **SETTINGS), tmp_path / "b", host=ToyHost(tmp_path / "b", toy_parts()),
        record=MemoryRecord(first.record.folder),
    )  # fmt: skip
    assert_same(second.tensors, straight.tensors)
