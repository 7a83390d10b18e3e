"""Every key that kohya's programs know has a verdict, and the tables agree with the settings."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from atelier.config.kohya.dataset_toml import DATASET_KEYS, SUBSET_KEYS
from atelier.config.kohya.verdicts import (
    HONOURED,
    NOT_SUPPORTED,
    TABLES,
    UNKNOWN,
    WITHOUT_EFFECT,
    dataset_verdict,
    for_value,
    gui_verdict,
    metadata_verdict,
    ours,
    table,
    training_verdict,
)
from atelier.config.settings.schema import options

KEYS = Path(__file__).resolve().parents[1] / "fixtures" / "kohya"
VERDICTS = {HONOURED, WITHOUT_EFFECT, NOT_SUPPORTED}
WITHOUT_A_FIELD = {"caption_extention", "dataset_config", "use_8bit_adam", "use_lion_optimizer", "use_safetensors"}
"""Honoured keys that are read as another setting."""


def names(file: str) -> list[str]:
    lines = (KEYS / file).read_text(encoding="utf-8").splitlines()[1:]
    return [line.split("\t")[0] for line in lines]


@pytest.mark.parametrize(
    ("file", "verdict"),
    [
        ("training_keys.tsv", training_verdict),
        ("dataset_keys.tsv", dataset_verdict),
        ("gui_keys.tsv", gui_verdict),
    ],
)
def test_every_key_has_a_verdict(file: str, verdict) -> None:  # type: ignore[no-untyped-def]
    assert len(names(file)) > 30
    assert [key for key in names(file) if verdict(key).verdict not in VERDICTS] == []


@pytest.mark.parametrize("file", sorted(path.stem for path in TABLES.glob("*.tsv")))
def test_what_is_not_honoured_says_why(file: str) -> None:
    rows = table(file).values()
    assert rows
    assert {row.verdict for row in rows} <= VERDICTS
    assert [row.key for row in rows if row.verdict != HONOURED and len(row.note) < 3] == []


def test_the_tables_hold_nothing_else() -> None:
    assert set(table("training")) == set(names("training_keys.tsv"))
    assert set(table("dataset")) - {"caption_from_name", "loss_weight"} == set(names("dataset_keys.tsv"))


def test_honoured_training_keys_are_settings() -> None:
    settings = {option.key for option in options()}
    honoured = {row.key for row in table("training").values() if row.verdict == HONOURED}
    assert honoured - WITHOUT_A_FIELD <= settings
    assert settings - {option.key for option in options() if option.ours} <= set(table("training"))


def test_settings_that_are_shown_are_honoured() -> None:
    """The tab has no control that does nothing."""
    known = {**table("training"), **ours()}
    assert [option.key for option in options() if option.shown and known[option.key].verdict != HONOURED] == []


def test_dataset_keys_are_fields() -> None:
    assert set(names("dataset_keys.tsv")) <= DATASET_KEYS | SUBSET_KEYS


def test_gui_and_metadata_names_lead_to_settings() -> None:
    settings = {option.key for option in options()} | set(table("training"))
    for file in ("gui", "metadata"):
        assert {row.becomes for row in table(file).values() if row.becomes} <= settings, file


def test_kinds_agree_with_kohyas() -> None:
    kinds = {
        "bool(flag)": {"bool"},
        "int": {"int"},
        "float": {"float"},
        "str": {"str"},
        "int_or_float": {"int_or_float"},
    }
    lists = {"str": "strs", "float": "floats"}
    by_key = {option.key: option.kind for option in options()}
    many = {"base_weights", "base_weights_multiplier", "network_args", "optimizer_args", "lr_scheduler_args",
            "text_encoder_lr"}  # fmt: skip
    for line in (KEYS / "training_keys.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        name, kind = line.split("\t")[:2]
        if name in by_key:
            allowed = {lists[kind]} if name in many else kinds[kind]
            assert by_key[name] in allowed, name


def test_choices_hold_kohyas() -> None:
    by_key = {option.key: option for option in options()}
    for line in (KEYS / "training_keys.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        name, _, _, choices = line.split("\t")
        if choices and name in by_key:
            wanted = {str(choice) for choice in json.loads(choices) if choice is not None}
            assert wanted <= set(by_key[name].choices), name


def test_a_key_switched_off_takes_nothing_away() -> None:
    deepspeed = training_verdict("deepspeed")
    assert for_value(deepspeed, False).verdict == WITHOUT_EFFECT
    assert for_value(deepspeed, True).verdict == NOT_SUPPORTED


def test_unknown_keys_name_the_nearest() -> None:
    assert training_verdict("learning_rte").verdict == UNKNOWN
    assert "learning_rate" in training_verdict("learning_rte").note
    assert training_verdict("t5xxl").verdict == NOT_SUPPORTED
    assert metadata_verdict("ss_whatever").verdict == WITHOUT_EFFECT


READ_BY_CONFIG = {"dataset_repeats", "train_batch_size", "in_json", "reg_data_dir", "train_data_dir"}
"""Settings that become part of a data set before anything else sees them."""


def test_honoured_settings_reach_the_program_and_others_do_not(root: Path) -> None:
    """A key that is called honoured is read where training is done; one that is not honoured is not."""
    words: set[str] = set()
    of_settings: set[str] = set()
    for path in (root / "lib" / "atelier").rglob("*.py"):
        if path.relative_to(root / "lib" / "atelier").parts[0] in ("config", "ui"):
            continue
        text = path.read_text(encoding="utf-8")
        if path.name != "metadata.py":  # describes a run in its file, whatever was asked for
            of_settings |= set(re.findall(r"\bsettings\.(\w+)", text))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    honoured = {row.key for row in table("training").values() if row.verdict == HONOURED} - WITHOUT_A_FIELD
    described = {key for key in honoured if key.startswith("metadata_")}
    assert honoured - words - READ_BY_CONFIG - described == set(), "honoured, but nothing reads it"
    others = {row.key for row in table("training").values() if row.verdict != HONOURED}
    assert others & of_settings == set(), "read, so its verdict in tables/training.tsv should say honoured"
