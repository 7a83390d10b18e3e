"""LyCORIS' preset files: which layers they choose, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapters_models import sd1_parts

from atelier.adapters.config import NetworkConfig
from atelier.adapters.kinds import chosen_layers
from atelier.config.errors import AtelierError


def chosen(preset: str) -> set[str]:
    """kohya's names of the layers that a preset chooses."""
    config = NetworkConfig(dim=2, module="lycoris.kohya", arguments={"algo": "lora", "preset": preset})
    return {target.name for target, _, _ in chosen_layers(sd1_parts(), config)}


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("enable_conv = 3", "enable_conv has to be true or false"),
        ("unet_target_module = 'CrossAttention'", "unet_target_module has to be a list of texts"),
        ("exclude_name = [1]", "exclude_name has to be a list of texts"),
        ("unet_target_name = ['*.to_k']", "set use_fnmatch = true"),
        ("module_algo_map = {FeedForward = {algo = 'lokr'}}", "module_algo_map is not supported"),
        ("unet_target_modul = []", "unet_target_modul is not known"),
        ("enable_conv = ", "no TOML file"),
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
    with pytest.raises(AtelierError, match="no TOML file"):
        chosen(str(tmp_path / "picture.toml"))
