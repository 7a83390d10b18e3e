"""network_args that nothing would read are told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.config.imports.importer import read_any
from atelier.config.kohya.network_args import ignored_arguments


@pytest.mark.parametrize(
    ("module", "pair", "words"),
    [
        ("networks.lora", "rank_dropuot=0.1", "did you mean rank_dropout?"),
        ("networks.lora", "dora_wd=True", "is for lycoris.kohya, not for networks.lora"),
        ("lycoris.kohya", "block_dims=1,2", "is for networks.lora, not for lycoris.kohya"),
        ("lycoris.kohya", "zzz=1", "zzz is not known and is ignored."),
    ],
)
def test_what_is_passed_over_is_named(module: str, pair: str, words: str) -> None:
    (sentence,) = ignored_arguments(module, [pair])
    assert words in sentence


def test_what_is_read_is_not() -> None:
    assert not ignored_arguments(
        "networks.lora", ["conv_dim=4", "block_dims=1", "loraplus_lr_ratio=16", "up_lr_weight=1"]
    )
    assert not ignored_arguments(
        "lycoris.kohya", ["algo=lokr", "factor=8", "preset=full", "dora_wd=True", "dropout=0.1"]
    )


def test_the_import_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('network_module = "networks.lora"\nnetwork_args = ["bogus=1", "rank_dropout=0.1"]\n')
    found = read_any(path)
    assert found.usable and any("bogus is not known" in note for note in found.notes)
    assert not any("rank_dropout" in note for note in found.notes)
