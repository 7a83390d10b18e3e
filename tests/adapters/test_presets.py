"""LyCORIS' preset files: which layers they choose, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atelier.adapters.applied.apply import LoraUse, applied
from atelier.adapters.config import NetworkConfig
from atelier.adapters.files.kohya_file import read_lora, save_lora
from atelier.adapters.kinds.algorithms import algorithm
from atelier.adapters.kinds.lycoris import chosen_layers
from atelier.adapters.network import build
from atelier.adapters.usable import troubles
from atelier.config.errors import AtelierError
from tests.support.adapters_models import predict, sd1_parts


def chosen(preset: str) -> set[str]:
    """kohya's names of the layers that a preset chooses."""
    config = NetworkConfig(dim=2, module="lycoris.kohya", arguments={"algo": "lora", "preset": preset})
    return {target.name for _, ranks in chosen_layers(sd1_parts(), config) for target, _, _ in ranks}


def by_file(folder: Path, text: str) -> set[str]:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return chosen(str(path))


def test_an_empty_file_is_the_full_preset(tmp_path: Path) -> None:
    assert by_file(tmp_path, "") == chosen("full")


def test_classes_are_those_of_the_programs_that_presets_are_written_for(tmp_path: Path) -> None:
    attention = """
        enable_conv = false
        unet_target_module = ["CrossAttention"]
        unet_target_name = []
        text_encoder_target_module = ["CLIPAttention"]
        text_encoder_target_name = []
    """
    assert by_file(tmp_path, attention) == chosen("attn-only")
    blocks = 'enable_conv = true\nunet_target_module = ["ResnetBlock2D"]\ntext_encoder_target_module = []'
    found = by_file(tmp_path, blocks)
    assert found and all("_resnets_" in name or "conv_in" in name or "conv_out" in name or "time_embedding" in name
                         for name in found)  # fmt: skip
    without = by_file(tmp_path, blocks.replace("true", "false"))
    assert without < found and not any("conv1" in name for name in without)


def test_patterns_are_regular_expressions_that_match_the_beginning_or_wildcards_that_match_all(tmp_path: Path) -> None:
    only = "unet_target_module = []\ntext_encoder_target_module = []\nunet_target_name = [PATTERN]\n"
    words = only.replace("PATTERN", r"'.*attn2\.to_[kv]$'")
    by_words = by_file(tmp_path, words)
    assert by_words == by_file(tmp_path, only.replace("PATTERN", "'*.attn2.to_[kv]'") + "use_fnmatch = true\n")
    assert by_words and all(name.endswith(("attn2_to_k", "attn2_to_v")) for name in by_words)
    assert by_file(tmp_path, only.replace("PATTERN", "'mid_block'")) == {
        name for name in chosen("full") if name.startswith("lora_unet_mid_block")
    }
    assert by_file(tmp_path, only.replace("PATTERN", "'mid_block'") + "use_fnmatch = true\n") == set()


def test_paths_of_text_encoders_are_those_of_transformers_4(tmp_path: Path) -> None:
    found = by_file(
        tmp_path,
        """
        unet_target_module = []
        unet_target_name = []
        text_encoder_target_module = []
        text_encoder_target_name = ['text_model\\.encoder\\.layers\\.0\\.self_attn\\.q_proj']
        """,
    )
    assert found == {"lora_te_text_model_encoder_layers_0_self_attn_q_proj"}


def test_what_is_excluded_is_left_out_with_all_that_is_in_it(tmp_path: Path) -> None:
    found = by_file(tmp_path, "exclude_name = ['mid_block', '.*ff', 'text_model.*mlp']")
    left = {name for name in chosen("full") if not name.startswith("lora_unet_mid_block")}
    assert found == {name for name in left if "_ff_" not in name and "_mlp_" not in name}
    shell = by_file(tmp_path, "use_fnmatch = true\nunet_target_name = []\nexclude_name = ['*.attentions.0', '*_proj']")
    assert not any("attentions_0" in name or name.endswith(("q_proj", "time_emb_proj")) for name in shell)
    assert {"proj_in", "fc1"} <= {name.rpartition("_1_")[2].rpartition("mlp_")[2] for name in shell}


def groups(folder: Path, text: str, algo: str = "lora") -> dict[tuple[str, int, float | None], set[str]]:
    """Names of layers by what they are trained as: kind, dim and alpha."""
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    config = NetworkConfig(
        dim=2, alpha=1, conv_dim=3, module="lycoris.kohya", arguments={"algo": algo, "preset": str(path)}
    )
    found: dict[tuple[str, int, float | None], set[str]] = {}
    for alike, ranks in chosen_layers(sd1_parts(), config):
        for target, dim, alpha in ranks:
            found.setdefault((algorithm(alike), dim, alpha), set()).add(target.name)
    return found


def test_layers_within_a_class_are_trained_as_the_map_says_the_innermost_class_first(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        """
        [module_algo_map.Transformer2DModel]
        algo = "lokr"
        factor = 4
        [module_algo_map.CrossAttention]
        algo = "loha"
        dim = 5
        alpha = 0.5
        """,
    )
    attention = {name for name in chosen("attn-only") if name.startswith("lora_unet")}
    assert found["loha", 5, 0.5] == attention
    assert found["lokr", 2, 1] == {
        name for name in chosen("attn-mlp") if name.startswith("lora_unet") and name not in attention
    }
    assert set().union(*found.values()) == chosen("full")


def test_layers_chosen_by_path_are_trained_as_the_map_of_paths_says(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        """
        use_fnmatch = true
        unet_target_module = []
        text_encoder_target_module = []
        unet_target_name = ["*.attn2.to_k", "*.attn2.to_q"]
        [name_algo_map."*.to_k"]
        algo = "lokr"
        """,
    )
    assert {kind for kind, _, _ in found} == {"lokr", "lora"}
    assert all(name.endswith("to_k") for name in found["lokr", 2, 1])
    assert all(name.endswith("to_q") for name in found["lora", 2, 1])


def test_a_file_of_several_kinds_is_worn_as_it_was_trained(tmp_path: Path) -> None:
    pytest.importorskip("lycoris")
    preset = tmp_path / "mine.toml"
    preset.write_text("[module_algo_map.CrossAttention]\nalgo = 'loha'\n[module_algo_map.CLIPMLP]\nalgo = 'lokr'\n")
    parts = sd1_parts()
    before = predict(parts)
    config = NetworkConfig(dim=2, module="lycoris.kohya", arguments={"algo": "lora", "preset": str(preset)})
    network = build(parts, config, 1)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    with network.attached():
        trained = predict(parts)
    assert not torch.allclose(trained, before, atol=1e-3)
    file = read_lora(save_lora(tmp_path / "mixed.safetensors", network.state_tensors(), {}))
    for layer, kind in (("attn1_to_q", "hada_w1_a"), ("mlp_fc1", "lokr_w1"), ("ff_net_2", "lora_down.weight")):
        layers = {key.partition(".")[0] for key in file.tensors if key.partition(".")[0].endswith(layer)}
        assert layers and all(f"{name}.{kind}" in file.tensors for name in layers)
    with torch.no_grad(), applied(parts, [LoraUse(file)]):
        assert torch.allclose(predict(parts), trained, atol=1e-4)


def test_what_webuis_make_of_the_kinds_in_a_map_is_said(tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text("[module_algo_map.CrossAttention]\nalgo = 'diag-oft'\n")
    arguments = {"algo": "lokr", "preset": str(preset)}
    said = [trouble.what for trouble in troubles(NetworkConfig(module="lycoris.kohya", arguments=arguments))]
    assert "OFT files" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("enable_conv = 3", "enable_conv must be true or false"),
        ("unet_target_module = 'CrossAttention'", "unet_target_module must be a list of texts"),
        ("exclude_name = [1]", "exclude_name must be a list of texts"),
        ("unet_target_name = ['*.to_k']", "set use_fnmatch = true"),
        ("module_algo_map = {FeedForward = 'lokr'}", "module_algo_map must be a table of tables"),
        ("name_algo_map = ['mid_block']", "name_algo_map must be a table of tables"),
        ("name_algo_map = {'*.to_k' = {algo = 'lokr'}}", "set use_fnmatch = true"),
        ("module_algo_map = {FeedForward = {dim = 'four'}}", "dim is 'four'; it must be a number"),
        ("unet_target_modul = []", "unet_target_modul is not known"),
        ("enable_conv = ", "not valid TOML"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AtelierError, match=said) as caught:
        by_file(tmp_path, text)
    assert "mine.toml" in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="gone.toml cannot be read: No such file"):
        chosen(str(tmp_path / "gone.toml"))
    with pytest.raises(AtelierError, match="cannot be read"):
        chosen(str(tmp_path / "nul\0.toml"))
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(AtelierError, match="not text in UTF-8"):
        chosen(str(tmp_path / "picture.toml"))
