"""Import of any file: what kind it is, a verdict for every key, and never more than a sentence for bad ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from atelier.config.imports.importer import import_report, read_any
from atelier.config.kohya.verdicts import HONOURED, NOT_SUPPORTED, UNKNOWN, WITHOUT_EFFECT, WRONG, ours, table

TRAINING = """
# a comment
pretrained_model_name_or_path = 'C:\\models\\v1.safetensors'
[network_arguments]
network_module = "networks.lora"
network_dim = 8
network_args = ["conv_dim=4"]
[optimizer_arguments]
learning_rate = 1e-4   # not much
xformers = true
deepspeed = true
no_token_padding = false
my_own_key = 3
"""
DATASETS = """
[general]
shuffle_caption = true
[[datasets]]
resolution = 512
  [[datasets.subsets]]
  image_dir = 'C:\\pictures\\cat'
  num_repeats = 3
  face_crop_aug_range = [2.0, 4.0]
"""


def report(tmp_path: Path, text: str, name: str = "a.toml") -> dict[str, Any]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = import_report(tmp_path / name)
    json.dumps(found, allow_nan=False)
    return found


def test_a_training_file(tmp_path: Path) -> None:
    found = report(tmp_path, TRAINING)
    assert found["kind"] == "sd-scripts training TOML" and found["usable"] and found["problems"] == []
    verdicts = {key["key"]: key["verdict"] for key in found["keys"]}
    assert verdicts == {
        "pretrained_model_name_or_path": HONOURED, "network_module": HONOURED, "network_dim": HONOURED,
        "network_args": HONOURED, "learning_rate": HONOURED, "xformers": WITHOUT_EFFECT, "deepspeed": NOT_SUPPORTED,
        "no_token_padding": WITHOUT_EFFECT, "my_own_key": UNKNOWN,
    }  # fmt: skip
    assert found["settings"]["conv_dim"] == 4
    assert {key["where"] for key in found["keys"]} == {"", "network_arguments", "optimizer_arguments"}
    assert all(key["note"] for key in found["keys"] if key["verdict"] != HONOURED)


def test_a_dataset_file(tmp_path: Path) -> None:
    found = report(tmp_path, DATASETS)
    assert found["kind"] == "sd-scripts dataset TOML" and found["usable"]
    assert [(key["where"], key["key"], key["verdict"]) for key in found["keys"]] == [
        ("general", "shuffle_caption", HONOURED),
        ("datasets[0]", "resolution", HONOURED),
        ("datasets[0].subsets[0]", "image_dir", HONOURED),
        ("datasets[0].subsets[0]", "num_repeats", HONOURED),
        ("datasets[0].subsets[0]", "face_crop_aug_range", NOT_SUPPORTED),
    ]
    assert found["datasets"][0]["subsets"] == [{"folder": "C:\\pictures\\cat", "repeats": 3}]
    assert any("not on this machine" in note for note in found["notes"])


def test_both_in_one_file(tmp_path: Path) -> None:
    found = report(tmp_path, TRAINING.replace("# a comment", "seed = 3") + DATASETS.replace("[general]", "[general]"))
    assert found["usable"] and len(found["datasets"]) == 1 and found["settings"]["seed"] == 3


def test_a_training_file_brings_its_dataset_file(tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text(DATASETS)
    found = report(tmp_path, 'dataset_config = "./data.toml"\nkeep_tokens = 2')
    assert len(found["datasets"]) == 1 and len(found["keys"]) == 7
    assert read_any(tmp_path / "a.toml").job().datasets.subsets[0].keep_tokens == 2
    missing = report(tmp_path, 'dataset_config = "elsewhere.toml"')
    assert missing["usable"] and "There is no dataset file elsewhere.toml" in missing["notes"][0]


def test_tables_inside_sections_are_read(tmp_path: Path) -> None:
    found = report(tmp_path, "[general_args.args]\nseed = 4\n[general_args.dataset_args]\ntrain_batch_size = 2")
    assert found["settings"] == {"seed": 4, "train_batch_size": 2}
    assert any("one level" in note for note in found["notes"])


def test_wrong_values_make_it_unusable(tmp_path: Path) -> None:
    found = report(tmp_path, "seed = 1\nlearning_rate = 'fast'\nnetwork_dim = 0")
    assert not found["usable"] and len(found["problems"]) == 2
    assert {key["key"]: key["verdict"] for key in found["keys"]} == {
        "seed": HONOURED, "learning_rate": WRONG, "network_dim": WRONG,
    }  # fmt: skip


@pytest.mark.parametrize("line", ["ae = 'x'", "t5xxl = 'x'", "network_module = 'networks.lora_sd3'"])
def test_other_families_are_refused(tmp_path: Path, line: str) -> None:
    found = report(tmp_path, line)
    assert not found["usable"] and "Stable Diffusion 1, 2 and XL" in found["problems"][0]


@pytest.mark.parametrize("name", ["none.toml", "", "folder"])
def test_what_is_no_file_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    found = import_report(tmp_path / name)
    assert found["usable"] is False and len(found["problems"]) == 1 and found["keys"] == []


@pytest.mark.parametrize("text", ["", "just words", "[a]", "x = ", "\x00\x01", "nonsense = 1"])
def test_what_says_nothing_is_reported(tmp_path: Path, text: str) -> None:
    assert report(tmp_path, text)["usable"] is False


ANY = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=8)
    | some.sampled_from(["1", "0.5", "None", "True", "512,512", "1e-4", "a=1 b=2", "--x 1"]),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
KEYS = some.sampled_from(sorted({*table("training"), *table("gui"), *ours()})) | some.text(max_size=10)
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)


PLACE = re.compile(r"fuzz\.(json|toml)(, line \d+)?: ")
PROBLEM = re.compile(PLACE.pattern + r"\w+( is .+;|:) [a-z].{8,}[.?]", re.DOTALL)
"""FILE, perhaps line N: KEY is VALUE; what is allowed."""


def check_sentences(found: dict[str, Any]) -> None:
    """What a person reads: what is wrong where and what is allowed, and never a word of Python's."""
    for problem in found["problems"]:
        assert PROBLEM.fullmatch(problem) if PLACE.match(problem) else re.fullmatch(r"\w.* .*\.", problem, re.DOTALL), (
            problem
        )
    for note in found["notes"]:
        assert note.endswith((".", "?")) and len(note.split()) > 3, note
    for text in [*found["problems"], *found["notes"], *(key["note"] for key in found["keys"])]:
        assert not re.search(r"Traceback|\bobject at 0x|<class|\w+Error\b|\w+Exception\b", text), text
    for key in found["keys"]:
        assert key["verdict"] in (HONOURED, WITHOUT_EFFECT, NOT_SUPPORTED, UNKNOWN, WRONG)
        assert key["note"] or key["verdict"] == HONOURED, key
        if key["verdict"] == WRONG:
            assert any(key["key"] in problem and key["note"] in problem for problem in found["problems"]), key
    assert found["usable"] is (found["problems"] == [])


@FUZZ
@given(some.dictionaries(KEYS, ANY, max_size=8))
def test_any_json_is_answered_in_sentences(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(json.dumps(data))
    found = import_report(path)
    json.dumps(found, allow_nan=False)
    check_sentences(found)
    if found["kind"]:
        assert {key["key"] for key in found["keys"]} >= set(data)
    if found["usable"]:
        read_any(path)


@FUZZ
@given(some.dictionaries(some.sampled_from(sorted(table("dataset"))), ANY, max_size=6), some.integers(0, 2))
def test_any_dataset_file_is_answered_in_sentences(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], level: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    tables = [{}, {}, {"image_dir": "x"}]
    tables[level] = {**tables[level], **data}
    import tomlkit

    def without_none(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_none(item) for key, item in value.items() if item is not None}
        if isinstance(value, list):
            return [without_none(item) for item in value if item is not None]
        return value

    content = without_none({"general": tables[0], "datasets": [{**tables[1], "subsets": [tables[2]]}]})
    try:
        path.write_text(tomlkit.dumps(content), encoding="utf-8")
    except (ValueError, TypeError, UnicodeEncodeError):
        return
    found = import_report(path)
    json.dumps(found, allow_nan=False)
    check_sentences(found)
    assert found["kind"], "it is a dataset file whatever its values are"
    assert {key["key"] for key in found["keys"]} >= {key for key, value in data.items() if value is not None}


def test_a_data_sets_strength(tmp_path: Path) -> None:
    text = '[[datasets]]\nnetwork_multiplier = {}\n[[datasets.subsets]]\nimage_dir = "pictures"\n'
    (tmp_path / "x.toml").write_text(text.format(0.5))
    found = read_any(tmp_path / "x.toml")
    assert found.datasets is not None and found.datasets.datasets[0].network_multiplier == 0.5
    assert {key.key: key.verdict for key in found.keys}["network_multiplier"] == "honoured"
    (tmp_path / "x.toml").write_text(text.format(0))
    assert "nothing would be learned at 0" in read_any(tmp_path / "x.toml").problems[0]
