"""Settings files of any size and shape end in settings or a sentence before anybody gets tired of waiting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atelier.config.errors import MOST_PROBLEMS, AtelierError, Problem, SettingsError, few
from atelier.config.files.limits import DEPTH, KEYS, NAMES, check_size
from atelier.config.imports.importer import import_report, read_any
from atelier.config.imports.loading import load_job
from atelier.config.kohya.document import parse_document
from atelier.ui.server.security import parse_json

ROWS = 60_000
BOMBS = {
    "tables within a table": "".join(f"[a.b.t{number}]\nx = 1\n" for number in range(ROWS)),
    "dotted keys": "".join(f"a.b{number} = 1\n" for number in range(ROWS)),
    "unknown keys": "".join(f"learning_rat{number} = 1\n" for number in range(ROWS)),
    "one key in many data sets": "[[datasets]]\nresolutio = 1\n" * ROWS,
    "lists within lists": "a = " + "[" * ROWS + "]" * ROWS,
    "a deep table": "[" + ".".join(["a"] * 2000) + "]\nx = 1\n",
    "a long number": "seed = " + "9" * ROWS,
    "spaces": "seed" + " " * 20 * ROWS + "1",
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_a_text_that_would_take_long(text: str, tmp_path: Path) -> None:
    path = tmp_path / "any.toml"
    path.write_text(text, encoding="utf-8")
    report = import_report(path)
    assert not report["usable"] and report["problems"]
    with pytest.raises(AtelierError) as caught:
        load_job(path)
    assert len(str(caught.value)) < 20_000


@pytest.mark.timeout(30)
def test_a_body_or_a_preset_with_too_many_keys(tmp_path: Path) -> None:
    asked = {"settings": {f"learning_rat{number}": 1 for number in range(ROWS)}}
    with pytest.raises(AtelierError, match="too many keys for settings"):
        parse_json(json.dumps(asked).encode())
    path = tmp_path / "preset.json"
    path.write_text(json.dumps({**asked["settings"], "LoRA_type": "Standard", "learning_rate": 1}), encoding="utf-8")
    with pytest.raises(AtelierError, match="too many keys for settings"):
        read_any(path)


def test_what_people_have_is_within_the_limits() -> None:
    """A thousand folders in one data set."""
    subset = "[[datasets.subsets]]\nimage_dir = 'x'\nnum_repeats = 2\nkeep_tokens = 1\nclass_tokens = 'a'\n"
    document = parse_document("[[datasets]]\nresolution = 512\n" + subset * 1000, "many.toml")
    assert len(document.content["datasets"][0]["subsets"]) == 1000


@pytest.mark.parametrize(
    "content",
    [
        {str(number): 1 for number in range(NAMES + 1)},
        [{"a": 1}] * (KEYS + 1),
        json.loads("[" * (DEPTH + 2) + "]" * (DEPTH + 2)),
    ],
    ids=["names", "keys", "depth"],
)
def test_each_limit(content: object) -> None:
    with pytest.raises(AtelierError, match="any.toml"):
        check_size(content, "any.toml")


def test_lines_are_found_however_a_key_is_written() -> None:
    text = "# seed = 1\n'seed' = 2\n\"a key\" = 3\nsubsets = [{image_dir = 'x', seed= 1}]\nthe_seed = 1\nseed=4\n"
    document = parse_document(text.replace("seed=4", "other=4"), "x.toml")
    assert [document.line_of("seed", number) for number in range(4)] == [2, 4, 4, 4]
    assert document.line_of("a key") == 3 and document.line_of("image_dir") == 4
    assert document.line_of("missing") is None and document.line_of("other") == 6


def test_many_problems_and_long_values_are_told_in_short() -> None:
    error = SettingsError([Problem(f"key{number}", "x" * 10_000, "it must be a number") for number in range(500)])
    assert len(error.problems) == 500
    lines = str(error).splitlines()
    assert len(lines) == MOST_PROBLEMS + 1 and lines[-1] == f"and {500 - MOST_PROBLEMS} more problems."
    assert lines[0].startswith("key0 is 'xxx") and lines[0].endswith("it must be a number.") and len(lines[0]) < 300


def test_long_lists_of_names_are_cut_with_a_count() -> None:
    assert few(["a", "b", "c"]) == "a, b, c" and few([]) == ""
    assert few((f"n{number}" for number in range(900)), 2) == "n0, n1 and 898 more"
    assert len(few(["x" * 9000] * 9)) < 600
