"""What a checkpoint takes from the file that it was trained from, and which of several answers a load goes by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from atelier.config.errors import AtelierError
from atelier.models.checkpoints import load
from atelier.models.checkpoints.load import load_checkpoint
from atelier.models.checkpoints.save import save_checkpoint
from tests.support.models_tiny import tiny_parts

CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """A checkpoint's tensors in half precision."""
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_checkpoint(path, tiny_parts("sd1"), dtype=torch.float16)
    return load_file(str(path))


def written(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Path:
    save_file(tensors, str(path), metadata=metadata)
    return path


@pytest.mark.parametrize("ending", [".safetensors", ".ckpt"])
def test_the_average_of_a_base_is_not_that_of_what_was_trained(
    ending: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    """Released checkpoints have one beside their weights. A WebUI that takes it would draw with the untrained model."""
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor + 1
        for name, tensor in state.items()
        if name.startswith("model.diffusion_model.input_blocks")
    }
    numbers = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5, dtype=torch.int32)}
    base = written(tmp_path / "base.safetensors", {**averages, **numbers, **state, "other": torch.ones(2)})
    parts = load_checkpoint(base).parts
    with torch.no_grad():
        parts.denoiser.conv_in.weight.mul_(2)
    target = tmp_path / f"trained{ending}"
    save_checkpoint(target, parts, base=base)
    found = load_file(str(target)) if ending == ".safetensors" else torch.load(target, weights_only=True)["state_dict"]
    assert averages and found.keys() == {*state, "other"}
    assert torch.equal(found[CONV_IN], state[CONV_IN] * 2)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items() if name != CONV_IN)


@pytest.mark.parametrize(
    "key", ["model.diffusion_model.out.2.bias", "first_stage_model.post_quant_conv.bias", "model.diffusion_model.time"]
)
def test_a_base_of_other_shapes_is_refused(key: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    """Nothing is written: a file of both would load, and draw noise."""
    key = next(name for name in state if name.startswith(key) and name.endswith("bias"))
    base = written(tmp_path / "base.safetensors", {**state, key: torch.zeros(state[key].shape[0] + 1)})
    target = tmp_path / "new.safetensors"
    target.write_bytes(b"an older one")
    with pytest.raises(
        AtelierError, match=rf"base\.safetensors is not the base of this model: {key} has another shape"
    ):
        save_checkpoint(target, tiny_parts("sd1"), base=base)
    assert target.read_bytes() == b"an older one" and len(list(tmp_path.iterdir())) == 2


# -- loading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("how", ["metadata", "yaml", "folder"])
def test_a_prediction_type_that_is_given_beats_what_is_stated(
    how: str, given: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    """Files state the wrong one, too; who says which it is has looked."""
    stated, short = ("epsilon", "eps") if given == "v_prediction" else ("v_prediction", "v")
    path = tmp_path / "model.safetensors"
    if how == "folder":
        parts = tiny_parts("sd1")
        parts.prediction_type = stated
        path = tmp_path / "model"
        save_checkpoint(path, parts)
        told = json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        assert told["prediction_type"] == stated
    elif how == "metadata":
        written(path, state, **{"modelspec.prediction_type": "v" if stated == "v_prediction" else "epsilon"})
    else:
        written(path, state)
        path.with_suffix(".yaml").write_text(f'model:\n  params:\n    parameterization: "{short}"\n', encoding="utf-8")
    for asked, expected in ((given, given), (None, stated)):
        loaded = load_checkpoint(path, prediction_type=asked, parts=frozenset(("unet",)))
        assert loaded.parts.prediction_type == loaded.info.prediction_type == expected


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_is_closed_when_it_is_read(
    whole: bool, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that cannot be used: on Windows nobody could replace or delete it while it is open."""
    opened: list[Any] = []
    really = load.open_tensor_file

    def noted(path: Path) -> Any:
        opened.append(really(path))
        return opened[-1]

    monkeypatch.setattr(load, "open_tensor_file", noted)
    kept = state if whole else {name: tensor for name, tensor in state.items() if "middle_block.0" not in name}
    path = written(tmp_path / "model.safetensors", kept)
    if whole:
        load_checkpoint(path)
        load.weights_from_path(tiny_parts("sd1").family, path, frozenset(("unet",)))
    else:
        with pytest.raises(AtelierError, match="model.safetensors"):
            load_checkpoint(path)
    assert len(opened) == (2 if whole else 1)
    for file in opened:
        with pytest.raises(ValueError, match="closed file"):
            file.read(next(iter(kept)))
