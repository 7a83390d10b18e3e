"""A file in which a layer lacks a tensor is refused, and the sentence names the layer and what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import read_lora
from atelier.adapters.files.layouts import layout_of
from atelier.adapters.files.whole_layers import fault_of
from atelier.adapters.kinds.algorithms import LYCORIS
from atelier.adapters.network import build
from atelier.adapters.start import base_weights, start_network
from atelier.config.errors import AtelierError
from atelier.models.family import Parts
from tests.support.adapters_models import sd1_parts

LAYER = "lora_unet_mid_block_attentions_0_proj_in"
OTHER = "lora_te_text_model_encoder_layers_0_mlp_fc1"
MATRIX, ROW, NUMBER = (2, 2), (2,), ()
Shapes = dict[str, tuple[int, ...]]
LORA: Shapes = {"lora_down.weight": MATRIX, "lora_up.weight": MATRIX}
LOHA: Shapes = {f"hada_w{side}_{end}": MATRIX for side in "12" for end in "ab"}
KINDS: dict[str, tuple[Shapes, Shapes]] = {
    "LoRA": (LORA, {"alpha": NUMBER}),
    "LoCon with a core": (LORA, {"lora_mid.weight": (2, 2, 3, 3), "alpha": NUMBER}),
    "DoRA": (LORA, {"dora_scale": (2, 1), "alpha": NUMBER}),
    "LoRA of LyCORIS with a learned scalar": (LORA, {"scalar": NUMBER}),
    "LoHa": (LOHA, {"alpha": NUMBER}),
    "LoHa with cores": ({**LOHA, "hada_t1": (2, 2, 3, 3), "hada_t2": (2, 2, 3, 3)}, {"alpha": NUMBER}),
    "LoHa, DoRA": (LOHA, {"dora_scale": (2, 1), "alpha": NUMBER}),
    "LoKr of two matrices": ({"lokr_w1": MATRIX, "lokr_w2": MATRIX}, {"alpha": NUMBER}),
    "LoKr of a product": ({"lokr_w1": MATRIX, "lokr_w2_a": MATRIX, "lokr_w2_b": MATRIX}, {"alpha": NUMBER}),
    "LoKr of two products": ({f"lokr_w{n}_{end}": MATRIX for n in "12" for end in "ab"}, {"dora_scale": (2, 1)}),
    "LoKr with a core": (
        {"lokr_w1": MATRIX, "lokr_w2_a": MATRIX, "lokr_w2_b": MATRIX}, {"lokr_t2": (2, 2, 3, 3), "alpha": NUMBER},
    ),
    "(IA)3": ({"weight": ROW, "on_input": NUMBER}, {}),
    "OFT": ({"oft_blocks": (2, 2, 2)}, {"rescale": (2, 1), "alpha": NUMBER}),
    "BOFT": ({"oft_blocks": (2, 2, 2, 2)}, {"rescale": (2, 1), "alpha": NUMBER}),
    "GLoRA": ({f"{name}.weight": MATRIX for name in ("a1", "a2", "b1", "b2")}, {"alpha": NUMBER}),
    "norm": ({"w_norm": ROW}, {"b_norm": ROW}),
}  # fmt: skip
"""By kind: the tensors that a layer needs, and those that it may have beside them."""


def file_of(kind: str) -> Shapes:
    """Two layers of a kind, by key."""
    needed, more = KINDS[kind]
    return {f"{layer}.{suffix}": shape for layer in (OTHER, LAYER) for suffix, shape in {**needed, **more}.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_that_a_layer_needs_is_missed(kind: str) -> None:
    needed, more = KINDS[kind]
    whole = file_of(kind)
    assert fault_of(whole) is None
    for suffix in needed:
        if len(needed) + len(more) == 1:
            continue
        fault = fault_of({key: shape for key, shape in whole.items() if key != f"{LAYER}.{suffix}"})
        assert fault is not None, suffix
        assert fault.startswith(f"{LAYER} lacks ") and suffix.split("_a")[0].split("_b")[0] in fault, (suffix, fault)
        assert "too" not in fault
    for suffix in more:  # what is beside it only
        left = {key: shape for key, shape in whole.items() if key != f"{LAYER}.{suffix}"}
        assert fault_of(left) is None, suffix


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_of_a_layer_is_not_taken_for_one(kind: str) -> None:
    """All that a layer needs is gone: an alpha, a scale, a bias or a core is nothing alone."""
    needed, more = KINDS[kind]
    if more:
        left = {key: shape for key, shape in file_of(kind).items() if key not in {f"{LAYER}.{each}" for each in needed}}
        fault = fault_of(left)
        assert fault is not None and fault.startswith(f"{LAYER} lacks "), fault


def test_halves_of_products_are_named() -> None:
    whole = file_of("LoKr of two products")
    for half in ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"):
        fault = fault_of({key: shape for key, shape in whole.items() if key != f"{LAYER}.{half}"})
        assert fault == f"{LAYER} lacks {half}"


@pytest.mark.parametrize(
    ("down", "up", "said"),
    [
        ("lora_A.weight", "lora_B.weight", "lora_A.weight"),
        ("lora_A.default.weight", "lora_B.default.weight", "lora_A.weight"),
        ("lora.down.weight", "lora.up.weight", "lora.down.weight"),
        ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight", "lora_linear_layer.down.weight"),
        ("lora_down.weight", "lora_up.weight", "lora_down.weight"),
    ],
)
def test_what_is_missing_is_said_in_the_words_of_the_file(down: str, up: str, said: str) -> None:
    layer = "unet.mid_block.attentions.0.proj_in"
    assert fault_of({f"{layer}.{down}": MATRIX, f"{layer}.{up}": MATRIX}) is None
    assert fault_of({f"{layer}.{up}": MATRIX}) == f"{layer} lacks {said}"


@pytest.mark.parametrize(
    ("left", "right", "rest"),
    [
        ("lora_up.weight", "lora_down.weight", {}),
        ("hada_w1_a", "hada_w1_b", {"hada_w2_a": MATRIX, "hada_w2_b": MATRIX}),
        ("lokr_w2_a", "lokr_w2_b", {"lokr_w1": MATRIX}),
    ],
)
def test_the_two_halves_of_a_product_have_one_rank(left: str, right: str, rest: Shapes) -> None:
    def fault(rank: int) -> str | None:
        return fault_of({f"{LAYER}.{key}": shape for key, shape in {left: (8, rank), right: (4, 8), **rest}.items()})

    assert fault(4) is None
    assert fault(7) == f"{LAYER} has the rank 7 in {left} and 4 in {right}"


def test_many_faulty_layers_are_counted() -> None:
    shapes = {f"lora_unet_{index}.lora_up.weight": MATRIX for index in range(500)}
    fault = fault_of(shapes)
    assert fault == "lora_unet_0 lacks lora_down.weight (499 more layers are faulty too)"


def test_files_of_other_things_are_not_judged_as_layers() -> None:
    """A trained embedding, a bias alone, whole weights beside an adapter."""
    lora = file_of("LoRA")
    for more in ("bundle_emb.zwx.string_to_param.*", "lora_unet_x.diff_b", "text_model.token_embedding.weight"):
        assert fault_of({**lora, more: MATRIX}) is None


@pytest.mark.parametrize("algorithm", ["lora", "loha", "lokr", "ia3", "diag-oft", "boft"])
def test_every_file_of_lycoris_is_whole(algorithm: str) -> None:
    pytest.importorskip("lycoris")
    config = NetworkConfig(dim=2, module=LYCORIS[0], arguments={"algo": algorithm, "dora_wd": "True"})
    parts = sd1_parts()
    assert fault_of({key: tuple(t.shape) for key, t in build(parts, config).state_tensors().items()}) is None


@pytest.fixture(scope="module")
def parts() -> Parts:
    return sd1_parts()


def written(path: Path, parts: Parts, **changes: torch.Tensor | None) -> Path:
    """A LoRA of the model, with changed tensors of one layer; None takes one out."""
    tensors = build(parts, NetworkConfig(dim=2, alpha=1.0)).state_tensors()
    for end, tensor in changes.items():
        del tensors[f"{LAYER}.{end}.weight"]
        if tensor is not None:
            tensors[f"{LAYER}.{end}.weight"] = tensor
    save_file(tensors, str(path))
    return path


def test_no_run_starts_from_half_a_layer(parts: Parts, tmp_path: Path) -> None:
    path = written(tmp_path / "half.safetensors", parts, lora_down=None)
    words = rf"half\.safetensors is damaged: {LAYER} lacks lora_down\.weight\. Download or save it again"
    for use in (
        lambda: start_network(parts, NetworkConfig(dim=2), 0, path),
        lambda: start_network(parts, NetworkConfig(dim=2), 0, path, dim_from_weights=True),
        lambda: base_weights(parts, [path]),
    ):
        with pytest.raises(AtelierError, match=words):
            use()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_run_starts_from_values_that_are_no_numbers(parts: Parts, tmp_path: Path, value: float) -> None:
    broken = torch.ones(parts.denoiser.mid_block.attentions[0].proj_in.weight.shape[0], 2, 1, 1)
    broken[1, 1] = value
    path = written(tmp_path / "nan.safetensors", parts, lora_up=broken)
    count = len(read_lora(path).shapes)
    words = rf"nan\.safetensors holds NaN or infinite values, in 1 of its {count} tensors \({LAYER}\.lora_up\.weight\)"
    for use, setting in (
        (lambda: start_network(parts, NetworkConfig(dim=2), 0, path), "network_weights"),
        (lambda: base_weights(parts, [path]), "base_weights"),
    ):
        with pytest.raises(AtelierError, match=rf"\({setting}\): {words}"):
            use()


def test_comfyuis_layout_has_a_name() -> None:
    assert layout_of(["text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.alpha"]) == "comfyui"
    assert layout_of(["diffusion_model.input_blocks.1.1.proj_in.lora_up.weight"]) == "comfyui"
