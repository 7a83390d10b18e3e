"""LoRA files on the disk: hashes, atomic writing, broken files, metadata, sidecars."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from atelier.adapters.config import NetworkConfig
from atelier.adapters.files import kohya_file
from atelier.adapters.files.checkpoint_hash import model_hashes
from atelier.adapters.files.kohya_file import read_lora, save_lora
from atelier.adapters.files.metadata import DatasetFacts, RunFacts, lora_metadata, network_facts
from atelier.adapters.files.sidecar import Sidecar, write_preview, write_sidecar
from atelier.adapters.network import build
from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.errors import AtelierError
from atelier.config.settings.schema import Settings
from atelier.models.registry import family_named
from tests.support.adapters_models import sd1_parts


def big_tensors() -> dict[str, torch.Tensor]:
    """More than 0x110000 bytes, so that the legacy hash covers real data."""
    draw = torch.Generator().manual_seed(0)
    return {
        "lora_unet_a.lora_down.weight": torch.randn(16, 12000, generator=draw),
        "lora_unet_a.lora_up.weight": torch.randn(12000, 16, generator=draw).half(),
        "lora_unet_a.alpha": torch.tensor(4.0),
    }


def test_hashes_are_of_the_bytes_that_kohya_hashes(tmp_path: Path) -> None:
    metadata = {"ss_steps": "10", "ss_output_name": "x", "modelspec.title": "x", "sshs_model_hash": "wrong"}
    path = save_lora(tmp_path / "x.safetensors", big_tensors(), metadata)
    raw = path.read_bytes()
    header_size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + header_size])
    data = raw[8 + header_size :]
    written = header.pop("__metadata__")
    assert written["sshs_model_hash"] == hashlib.sha256(data).hexdigest()

    header["__metadata__"] = {"ss_steps": "10", "ss_output_name": "x"}
    slim = json.dumps(header, separators=(",", ":")).encode()
    slim += b" " * (-len(slim) % 8)
    twin = len(slim).to_bytes(8, "little") + slim + data
    assert written["sshs_legacy_hash"] == hashlib.sha256(twin[0x100000:0x110000]).hexdigest()[:8]
    assert len(twin) > 0x110000


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    network = build(sd1_parts(), NetworkConfig(dim=4, alpha=2, conv_dim=2))
    tensors = network.state_tensors(torch.float16)
    path = save_lora(tmp_path / "new folder" / "dög.safetensors", tensors, {"ss_seed": "1", "ss_note": "ü"})
    file = read_lora(path)
    assert file.name == "dög" and file.kind == "locon"
    assert file.metadata["ss_note"] == "ü"
    assert file.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert all(torch.equal(file.tensors[name], tensor) for name, tensor in tensors.items())
    assert {tensor.dtype for tensor in file.tensors.values()} == {torch.float16}
    with safe_open(path, "pt") as opened:
        assert set(opened.keys()) == set(tensors)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_existing_file_is_not_touched_unless_told(tmp_path: Path) -> None:
    path = save_lora(tmp_path / "x.safetensors", big_tensors(), {})
    before = path.read_bytes()
    with pytest.raises(AtelierError, match="exists already"):
        save_lora(path, {"a.alpha": torch.ones(())}, {})
    assert path.read_bytes() == before
    save_lora(path, {"a.alpha": torch.ones(())}, {}, overwrite=True)
    assert set(read_lora(path).shapes) == {"a.alpha"}


def test_a_failing_disk_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_lora(tmp_path / "x.safetensors", big_tensors(), {})
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kohya_file.os, "fsync", full)
    with pytest.raises(AtelierError, match="No space left"):
        save_lora(path, {"a.alpha": torch.ones(())}, {}, overwrite=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = save_lora(tmp_path / "x.safetensors", big_tensors(), {})
    whole = path.read_bytes()
    for content in (b"", b"abc", whole[:100], whole[:-10], b"\xff" * 4000, b"\x10" + b"\0" * 7 + b"[1, 2]          "):
        path.write_bytes(content)
        with pytest.raises(AtelierError, match="x.safetensors is not a complete"):
            read_lora(path)
    with pytest.raises(AtelierError, match="no LoRA file gone"):
        read_lora(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_file_that_lacks_its_last_bytes_is_refused(tmp_path: Path, cut: int) -> None:
    path = save_lora(tmp_path / "x.safetensors", big_tensors(), {})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(AtelierError, match=r"x\.safetensors is not a .*its end is missing"):
        read_lora(path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_appears_while_another_is_written(
    overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was told that it may be replaced: it stays, unless anything there may be."""
    path = tmp_path / "x.safetensors"

    def meanwhile(_: int) -> None:
        monkeypatch.undo()
        path.write_bytes(b"somebody else's")

    monkeypatch.setattr(kohya_file.os, "fsync", meanwhile)
    if overwrite:
        save_lora(path, {"a.alpha": torch.ones(())}, {}, overwrite=True)
        assert set(read_lora(path).shapes) == {"a.alpha"}
    else:
        with pytest.raises(AtelierError, match=r"x\.safetensors .* meanwhile"):
            save_lora(path, {"a.alpha": torch.ones(())}, {})
        assert path.read_bytes() == b"somebody else's"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def test_old_pickles_are_read_without_running_them(tmp_path: Path) -> None:
    tensors = {"lora_te_a.alpha": torch.tensor(2.0)}
    torch.save({"state_dict": tensors}, tmp_path / "a.pt")
    assert torch.equal(read_lora(tmp_path / "a.pt").tensors["lora_te_a.alpha"], torch.tensor(2.0))
    torch.save({"x": Path("a")}, tmp_path / "b.pt")
    with pytest.raises(AtelierError, match="b.pt is refused: loading it would run pathlib"):
        read_lora(tmp_path / "b.pt")


def test_checkpoint_hashes(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    content = bytes(range(256)) * (0x120000 // 256)
    path.write_bytes(content)
    short = hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]
    assert model_hashes(path, whole=False) == (short, None)
    assert model_hashes(path) == (short, hashlib.sha256(content).hexdigest())
    assert model_hashes(path, whole=False)[1] is not None
    path.write_bytes(content + b"1")
    assert model_hashes(path)[1] == hashlib.sha256(content + b"1").hexdigest()
    assert model_hashes(tmp_path) == (None, None) == model_hashes(None)


def facts(family: str = "sd1") -> RunFacts:
    return RunFacts(
        family=family_named(family),
        prediction_type="v_prediction" if family == "sd2" else "epsilon",
        session_id="123",
        seed=7,
        started_at=1000.5,
        max_train_steps=60,
        num_epochs=10,
        batches_per_epoch=6,
        datasets=(
            DatasetFacts(
                train_images=12,
                reg_images=3,
                pictures=(6, 3),
                buckets=(((512, 512), 12),),
                tag_frequency={"2_dog": {"dog": 6}},
            ),
        ),
        base_name="base.safetensors",
        base_hash="aabbccdd",
        base_new_hash="ee" * 32,
    )


def metadata_of(family: str = "sd1", **changes: object) -> dict[str, str]:
    settings = Settings().replace(output_name="dog", trigger=" ohwx ", network_dim=8, network_alpha=4.0, **changes)
    datasets = DatasetConfig(
        [Dataset(subsets=[Subset(image_dir="/x/2_dog", num_repeats=2), Subset(image_dir="/x/1_reg", is_reg=True)])]
    )
    return lora_metadata(settings, datasets, facts(family), step=30, epoch=5, finished_at=2000.0)


def test_metadata_has_kohyas_keys_as_text() -> None:
    metadata = metadata_of(text_encoder_lr=[5e-5], unet_lr=None, network_args=["loraplus_lr_ratio=4"], conv_dim=2)
    assert all(isinstance(value, str) for value in metadata.values())
    expected = {
        "ss_network_module": "networks.lora", "ss_network_dim": "8", "ss_network_alpha": "4.0",
        "ss_base_model_version": "sd_v1", "ss_v2": "False", "ss_sd_model_name": "base.safetensors",
        "ss_sd_model_hash": "aabbccdd", "ss_new_sd_model_hash": "ee" * 32, "ss_unet_lr": "None",
        "ss_text_encoder_lr": "5e-05", "ss_optimizer": "AdamW", "ss_lr_scheduler": "constant", "ss_steps": "30",
        "ss_max_train_steps": "60", "ss_epoch": "5", "ss_num_epochs": "10", "ss_num_train_images": "12",
        "ss_num_reg_images": "3", "ss_resolution": "(512, 512)", "ss_clip_skip": "None", "ss_seed": "7",
        "ss_output_name": "dog", "ss_training_started_at": "1000.5", "ss_training_finished_at": "2000.0",
        "ss_session_id": "123",
    }  # fmt: skip
    assert {key: metadata[key] for key in expected} == expected
    assert json.loads(metadata["ss_network_args"]) == {"loraplus_lr_ratio": "4", "conv_dim": "2"}
    assert json.loads(metadata["ss_dataset_dirs"]) == {"2_dog": {"n_repeats": 2, "img_count": 6}}
    assert json.loads(metadata["ss_reg_dataset_dirs"]) == {"1_reg": {"n_repeats": 1, "img_count": 3}}
    assert json.loads(metadata["ss_tag_frequency"]) == {"2_dog": {"dog": 6}}
    assert json.loads(metadata["ss_bucket_info"])["buckets"]["0"] == {"resolution": [512, 512], "count": 12}
    assert json.loads(metadata["ss_datasets"])[0]["subsets"][1]["is_reg"] is True


def test_folders_of_one_name_are_all_listed() -> None:
    """Pictures and class pictures are counted apart, and none takes another's place."""
    subsets = [
        Subset(image_dir="/x/2_dog", num_repeats=2), Subset(image_dir="/y/2_dog", num_repeats=3),
        Subset(image_dir="/z/2_dog"), Subset(image_dir="/x/1_reg/2_dog", is_reg=True),
    ]  # fmt: skip
    run = replace(facts(), datasets=(DatasetFacts(train_images=9, pictures=(6, 5, 4, 3)),))
    metadata = lora_metadata(Settings(), DatasetConfig([Dataset(subsets=subsets)]), run, 1, 1, 2000.0)
    assert json.loads(metadata["ss_dataset_dirs"]) == {
        "2_dog": {"n_repeats": 2, "img_count": 6}, "2_dog (2)": {"n_repeats": 3, "img_count": 5},
        "2_dog (3)": {"n_repeats": 1, "img_count": 4},
    }  # fmt: skip
    assert json.loads(metadata["ss_reg_dataset_dirs"]) == {"2_dog": {"n_repeats": 1, "img_count": 3}}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"min_timestep": 200}, "200,1000"), ({"max_timestep": 700}, "0,700"), ({"max_timestep": 0}, "0,0"),
        ({"min_timestep": 200, "max_timestep": 700}, "200,700"), ({"min_timestep": 0}, "0,1000"), ({}, None),
    ],
)  # fmt: skip
def test_the_range_of_timesteps(asked: dict[str, int], told: str | None) -> None:
    assert metadata_of(**asked).get("modelspec.timestep_range") == told


@pytest.mark.parametrize(
    ("family", "architecture", "version", "prediction"),
    [
        ("sd1", "stable-diffusion-v1/lora", "sd_v1", "epsilon"),
        ("sd2", "stable-diffusion-v2-768-v/lora", "sd_v2", "v"),
        ("sdxl", "stable-diffusion-xl-v1-base/lora", "sdxl_base_v1-0", "epsilon"),
    ],
)
def test_hosts_recognise_the_family(family: str, architecture: str, version: str, prediction: str) -> None:
    metadata = metadata_of(family)
    assert metadata["modelspec.architecture"] == architecture
    assert metadata["ss_base_model_version"].startswith(version)
    assert metadata["ss_v2"] == str(family == "sd2")
    assert metadata["modelspec.prediction_type"] == prediction
    assert metadata["modelspec.sai_model_spec"] == "1.0.1"
    assert metadata["modelspec.title"] == "dog" and metadata["modelspec.trigger_phrase"] == "ohwx"
    assert metadata["modelspec.resolution"] == "512x512"


def test_no_metadata_leaves_what_a_host_needs() -> None:
    metadata = metadata_of(no_metadata=True)
    assert {key for key in metadata if key.startswith("ss_")} == {
        "ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha",
    }  # fmt: skip
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"


def test_the_network_is_read_back_from_the_metadata() -> None:
    read = network_facts(metadata_of(network_args=["rank_dropout=0.1"]))
    assert read is not None and (read.dim, read.alpha, read.arguments["rank_dropout"]) == (8, 4.0, "0.1")
    assert network_facts({"ss_network_dim": "Dynamic"}) is None


def test_sidecar_and_preview(tmp_path: Path) -> None:
    lora = tmp_path / "dog.safetensors"
    (tmp_path / "dog.json").write_text('{"mine": 1, "notes": "old"}', encoding="utf-8")
    path = write_sidecar(lora, Sidecar("ohwx dog", 0.8, "SD1", "Ein Hünd", "new"))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["activation text"] == "ohwx dog" and content["preferred weight"] == 0.8
    assert content["sd version"] == "SD1" and content["description"] == "Ein Hünd"
    assert content["notes"] == "new" and content["mine"] == 1
    assert content["tags"] == ["ohwx dog"], "what SD.Next shows on the card"
    preview = write_preview(lora, Image.new("RGBA", (2000, 1000), "red"))
    with Image.open(preview) as picture:
        assert picture.size == (768, 384) and preview.name == "dog.png"
