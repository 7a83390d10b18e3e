"""Checkpoints: what is kept to the bit, what is recognised, what is refused and in which words."""

from __future__ import annotations

import json
import pickle
import struct
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier.config.errors import AtelierError
from atelier.models.checkpoints import writing
from atelier.models.checkpoints.load import identity_of, load_checkpoint
from atelier.models.checkpoints.save import save_checkpoint
from atelier.models.checkpoints.tensor_file import SafetensorsFile
from atelier.models.registry import recognise
from tests.support.models_tiny import FAMILY_NAMES, modules_of, tiny_parts


def as_safetensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, str(path))
    return path


@pytest.fixture(scope="module")
def sd1_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp16 single file with tensors in it that are none of the model's."""
    folder = tmp_path_factory.mktemp("sd1")
    save_checkpoint(folder / "plain.safetensors", tiny_parts("sd1"), dtype=torch.float16)
    state = load_file(str(folder / "plain.safetensors"))
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state["alphas_cumprod"] = torch.rand(1000)
    state["somebody.elses.extra"] = torch.randn(3, 2, dtype=torch.float64)
    path = folder / "extra.safetensors"
    save_file(state, str(path), metadata={"modelspec.title": "a title"})
    return path


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("ending", [".safetensors", ".ckpt"])
def test_every_bit_and_every_extra_tensor_comes_back(family: str, ending: str, tmp_path: Path) -> None:
    plain, source = tmp_path / "plain.safetensors", tmp_path / "base.safetensors"
    save_checkpoint(plain, tiny_parts(family), dtype=torch.float16)
    state = load_file(str(plain))
    state["extra.counts"] = torch.arange(5)
    state["extra.numbers"] = torch.randn(4, dtype=torch.bfloat16)
    if family == "sdxl":
        state["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6)
    save_file(state, str(source))
    loaded = load_checkpoint(source)
    target = tmp_path / f"again{ending}"
    save_checkpoint(target, loaded.parts, base=source)
    if ending == ".ckpt":
        found = torch.load(str(target), weights_only=True)["state_dict"]
    else:
        found = load_file(str(target))
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_trained_weights_go_into_the_base_s_keys(sd1_file: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(sd1_file)
    with torch.no_grad():
        loaded.parts.denoiser.conv_in.weight.mul_(2)
    target = tmp_path / "trained.safetensors"
    save_checkpoint(target, loaded.parts, base=sd1_file, dtype=torch.bfloat16, metadata={"a": "b"})
    before, after = load_file(str(sd1_file)), load_file(str(target))
    key = "model.diffusion_model.input_blocks.0.0.weight"
    assert torch.equal(after[key].float(), (before[key].float() * 2).bfloat16().float())
    assert after[key].dtype == torch.bfloat16
    assert torch.equal(after["somebody.elses.extra"], before["somebody.elses.extra"])
    with SafetensorsFile(target) as file:
        assert file.metadata["a"] == "b"
        assert file.metadata["modelspec.architecture"] == "stable-diffusion-v1"


def test_parts_not_at_hand_come_from_the_base(sd1_file: Path, tmp_path: Path) -> None:
    unet_only = load_checkpoint(sd1_file, parts=frozenset(("unet",))).parts
    assert unet_only.vae is None and unet_only.text_encoders == []
    for name in ("file.safetensors", "folder"):
        save_checkpoint(tmp_path / name, unet_only, base=sd1_file)
        whole, again = load_checkpoint(sd1_file).parts, load_checkpoint(tmp_path / name).parts
        for part, module in modules_of(whole).items():
            found = dict(modules_of(again)[part].named_parameters())
            assert all(torch.equal(found[key], tensor) for key, tensor in module.named_parameters())


def test_another_vae_can_be_put_in(sd1_file: Path, tmp_path: Path) -> None:
    other = tiny_parts("sd1", seed=5)
    save_checkpoint(tmp_path / "other.safetensors", other)
    state = load_file(str(tmp_path / "other.safetensors"))
    alone = {
        key.removeprefix("first_stage_model."): tensor.clone()
        for key, tensor in state.items()
        if key.startswith("first_stage_model.")
    }
    save_file({**alone, "loss.logvar": torch.zeros(1)}, str(tmp_path / "vae.safetensors"))
    loaded = load_checkpoint(sd1_file).parts
    assert other.vae is not None
    for source in ("vae.safetensors", "other.safetensors"):
        save_checkpoint(tmp_path / "new.safetensors", loaded, base=sd1_file, dtype=torch.float32, vae=tmp_path / source)
        again = load_checkpoint(tmp_path / "new.safetensors").parts
        assert again.vae is not None
        assert torch.equal(again.vae.decoder.conv_in.weight, other.vae.decoder.conv_in.weight)
        assert torch.equal(again.denoiser.conv_in.weight, loaded.denoiser.conv_in.weight)


@pytest.mark.parametrize("variant", ["fp16", "sharded", "bin", "old names"])
def test_diffusers_folders_in_all_their_forms(variant: str, tmp_path: Path) -> None:
    parts = tiny_parts("sd1")
    folder = tmp_path / "model"
    save_checkpoint(folder, parts)
    unet, vae = folder / "unet" / "diffusion_pytorch_model.safetensors", folder / "vae"
    if variant == "fp16":
        save_file(
            {name: tensor.half() for name, tensor in load_file(str(unet)).items()},
            str(unet.with_name("diffusion_pytorch_model.fp16.safetensors")),
        )
        unet.unlink()
    elif variant == "sharded":
        parts.denoiser.save_pretrained(str(unet.parent), max_shard_size="1MB")
        unet.unlink(missing_ok=True)
        assert len(list(unet.parent.glob("*-of-*.safetensors"))) > 1
    elif variant == "bin":
        torch.save(load_file(str(unet)), str(unet.with_suffix(".bin")))
        unet.unlink()
    else:
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        file = vae / "diffusion_pytorch_model.safetensors"
        state = {}
        for name, tensor in load_file(str(file)).items():
            for new_name, old_name in old.items():
                name = name.replace(f".{new_name}.", f".{old_name}.")
            state[name] = tensor.clone()
        assert any("proj_attn" in name for name in state)
        save_file(state, str(file))
    loaded = load_checkpoint(folder).parts
    tolerance = 1e-3 if variant == "fp16" else 0
    for part, module in modules_of(parts).items():
        found = dict(modules_of(loaded)[part].named_parameters())
        for name, tensor in module.named_parameters():
            assert torch.allclose(found[name], tensor, atol=tolerance, rtol=tolerance)


def test_what_shapes_do_not_tell_is_in_the_metadata(tmp_path: Path) -> None:
    parts = tiny_parts("sd1")
    config = dict(parts.denoiser.config)
    config["attention_head_dim"] = 4
    parts.denoiser = type(parts.denoiser).from_config(config)
    save_checkpoint(tmp_path / "four.safetensors", parts)
    assert load_checkpoint(tmp_path / "four.safetensors").parts.denoiser.config["attention_head_dim"] == 4
    save_checkpoint(tmp_path / "plain.safetensors", tiny_parts("sd1"))
    with SafetensorsFile(tmp_path / "plain.safetensors") as file:
        assert "atelier.config" not in file.metadata or "unet" not in file.metadata["atelier.config"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("metadata", "v_prediction"), ("yaml", "v_prediction"), ("given", "v_prediction"), ("nothing", "epsilon")],
)
def test_where_the_prediction_type_comes_from(how: str, expected: str, sd1_file: Path, tmp_path: Path) -> None:
    metadata = {"modelspec.prediction_type": "v"} if how == "metadata" else {}
    path = tmp_path / "model.safetensors"
    save_file(load_file(str(sd1_file)), str(path), metadata=metadata)
    if how == "yaml":
        path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n', encoding="utf-8")
    loaded = load_checkpoint(path, prediction_type="v_prediction" if how == "given" else None)
    assert loaded.parts.prediction_type == loaded.info.prediction_type == expected


def test_sdxl_marks_and_folder_schedules_survive(tmp_path: Path) -> None:
    parts = tiny_parts("sdxl")
    parts.prediction_type, parts.zero_terminal_snr = "v_prediction", True
    for name in ("file.safetensors", "file.ckpt", "folder"):
        save_checkpoint(tmp_path / name, parts)
        loaded = load_checkpoint(tmp_path / name).parts
        assert (loaded.prediction_type, loaded.zero_terminal_snr) == ("v_prediction", True)


def test_identity_follows_the_bytes_not_the_name(sd1_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "renamed.safetensors"
    copy.write_bytes(sd1_file.read_bytes())
    assert identity_of(copy) == identity_of(sd1_file)
    content = bytearray(copy.read_bytes())
    content[len(content) // 2 + 1] ^= 1
    copy.write_bytes(content)
    assert identity_of(copy) != identity_of(sd1_file)


UNET = "model.diffusion_model."
REFUSED = [
    ({"lora_unet_a.lora_down.weight": (4, 4)}, "is a LoRA, not a checkpoint"),
    ({UNET + "joint_blocks.0.x_block.mlp.fc1.weight": (4, 4)}, "is a Stable Diffusion 3 model"),
    ({"double_blocks.0.img_attn.qkv.weight": (4, 4)}, "is a Flux model"),
    ({UNET + "input_blocks.0.0.weight": (32, 9, 3, 3)}, "is an inpainting model"),
    ({UNET + "input_blocks.0.0.weight": (32, 5, 3, 3)}, "is a depth-to-image model"),
    (
        {UNET + "input_blocks.0.0.weight": (32, 4, 3, 3), "conditioner.embedders.0.model.ln_final.bias": (4,)},
        "is the SDXL refiner",
    ),
    ({"encoder.down.0.block.0.conv1.weight": (4, 4, 3, 3)}, "is only a VAE"),
    ({"emb_params": (4, 4)}, "is a textual inversion embedding"),
    ({"something": (1,)}, "is of an unknown model family"),
    ({UNET + "input_blocks.0.0.weight": (32, 4, 3, 3)}, "is of an unknown model family"),
]


@pytest.mark.parametrize(("shapes", "words"), REFUSED)
def test_other_models_are_refused_by_name(shapes: dict[str, tuple[int, ...]], words: str, tmp_path: Path) -> None:
    path = as_safetensors(tmp_path / "thing.safetensors", shapes)
    with pytest.raises(AtelierError, match=rf"^thing\.safetensors {words}") as raised:
        load_checkpoint(path)
    assert "\n" not in str(raised.value)
    with pytest.raises(AtelierError):
        recognise(shapes)


def test_broken_files_are_told_apart(sd1_file: Path, tmp_path: Path) -> None:
    whole = sd1_file.read_bytes()
    for content, words in (
        (whole[: len(whole) // 2], "is incomplete: it has"),
        (whole[:1000], "its header is damaged"),
        (b"", "its header is damaged"),
        (struct.pack("<Q", 4) + b"[1,]" + bytes(100), "its header is damaged"),
    ):
        path = tmp_path / "broken.safetensors"
        path.write_bytes(content)
        with pytest.raises(AtelierError, match=words):
            load_checkpoint(path)
    for name, words in (("none.safetensors", "There is no model at"), ("model.txt", "is not a model file")):
        if name.endswith("txt"):
            (tmp_path / name).write_text("x", encoding="utf-8")
        with pytest.raises(AtelierError, match=words):
            load_checkpoint(tmp_path / name)


def test_a_file_that_lacks_tensors_says_which(sd1_file: Path, tmp_path: Path) -> None:
    state = load_file(str(sd1_file))
    del state["model.diffusion_model.middle_block.0.in_layers.2.weight"]
    save_file(state, str(tmp_path / "less.safetensors"))
    with pytest.raises(AtelierError, match=r"less\.safetensors: .*lacks mid_block\.resnets\.0\.conv1\.weight"):
        load_checkpoint(tmp_path / "less.safetensors")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("echo this was run > proof",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_by_name(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.ckpt"
    if zipped:
        torch.save({"state_dict": {"a": torch.zeros(2)}, "evil": Evil()}, str(path))
    else:
        path.write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(AtelierError, match=r"evil\.ckpt is refused: .*(posix|nt)\.system"):
        load_checkpoint(path)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_lightning_checkpoint_with_its_bookkeeping_loads(
    zipped: bool, sd1_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "pytorch_lightning.callbacks.model_checkpoint"
    parents = ("pytorch_lightning", "pytorch_lightning.callbacks", name)
    callback = type("ModelCheckpoint", (), {"__module__": name})
    for parent in parents:
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    sys.modules[name].ModelCheckpoint = callback  # type: ignore[attr-defined]
    content = {
        "state_dict": OrderedDict(load_file(str(sd1_file))),
        "epoch": 3,
        "callbacks": {callback: {"best": torch.tensor(1.0)}},
    }
    torch.save(content, str(tmp_path / "old.ckpt"), _use_new_zipfile_serialization=zipped)
    loaded = load_checkpoint(tmp_path / "old.ckpt").parts
    wanted = load_checkpoint(sd1_file).parts
    for part, module in modules_of(wanted).items():
        found = dict(modules_of(loaded)[part].named_parameters())
        assert all(torch.equal(found[key], tensor) for key, tensor in module.named_parameters())


def test_damaged_and_foreign_pickles(tmp_path: Path, sd1_file: Path) -> None:
    whole = tmp_path / "whole.ckpt"
    save_checkpoint(whole, load_checkpoint(sd1_file).parts)
    (tmp_path / "cut.ckpt").write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(AtelierError, match=r"cut\.ckpt"):
        load_checkpoint(tmp_path / "cut.ckpt")
    torch.save([1, 2], str(tmp_path / "list.ckpt"))
    with pytest.raises(AtelierError, match="has no weights"):
        load_checkpoint(tmp_path / "list.ckpt")


def test_folders_that_are_not_models(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="is not a diffusers folder"):
        load_checkpoint(tmp_path)
    (tmp_path / "model_index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(AtelierError, match="without a UNet"):
        load_checkpoint(tmp_path)
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}', encoding="utf-8")
    with pytest.raises(AtelierError, match="is a Flux model"):
        load_checkpoint(tmp_path)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"in_channels": 9}), encoding="utf-8")
    with pytest.raises(AtelierError, match="is an inpainting model"):
        load_checkpoint(tmp_path)
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"in_channels": 4}), encoding="utf-8")
    with pytest.raises(AtelierError, match="no weights beside it"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt", "model"])
def test_a_full_disk_loses_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tiny_parts("sd1")
    target = tmp_path / name
    save_checkpoint(target, parts)
    good = identity_of(target)

    def full(self: writing.Entry) -> torch.Tensor:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing.Entry, "tensor", full)
        with pytest.raises(AtelierError, match="(disk is full|No space left).*Files saved before are unchanged"):
            save_checkpoint(target, tiny_parts("sd1", seed=1))
    assert identity_of(target) == good
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt", "model"])
def test_too_little_space_is_told_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 1 << 20})
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(AtelierError, match=r"needs \d+ MB, but .* has 1 MB free"):
        save_checkpoint(tmp_path / name, tiny_parts("sd1"))
    assert list(tmp_path.iterdir()) == []
