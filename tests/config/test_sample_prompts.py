"""Sample prompts in kohya's three syntaxes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atelier.config.errors import AtelierError
from atelier.config.sample_prompts import SamplePrompt, parse_line, parse_lines, read_sample_prompts

FULL = SamplePrompt("a cat", "bad, ugly", 512, 768, 42, 28, 7.5, "euler_a")


def test_a_line_with_every_flag() -> None:
    assert parse_line("a cat --n bad, ugly --w 512 --h 768 --d 42 --s 28 --l 7.5 --ss euler_a") == FULL
    assert parse_line("a cat --W 64 --SS ddim") == SamplePrompt("a cat", width=64, sample_sampler="ddim")


def test_flags_of_other_models_are_passed_over_and_unknown_ones_stay() -> None:
    line = "a cat --g 3.5 --cn edges.png --i a.png --ctr 0.2 --rcfg 1 --fs 3 --d 1"
    assert parse_line(line) == SamplePrompt("a cat", seed=1)
    assert parse_line("a cat --zz top --d 1") == SamplePrompt("a cat --zz top", seed=1)


def test_steps_and_sides_are_held_within_bounds() -> None:
    odd = parse_line("a --w 100 --h 3")
    assert (odd.width, odd.height) == (96, 64)
    assert parse_line("a --s 0").sample_steps == 1 and parse_line("a --s 5000").sample_steps == 1000


def test_sides_and_seeds_beyond_all_bounds() -> None:
    prompt = parse_line("a cat --w 1000000 --h 99999999999 --d 99999999999999999999999")
    assert (prompt.width, prompt.height) == (4096, 4096) and prompt.seed == 99999999999999999999999 % 2**63


def test_comments_and_empty_lines_are_no_prompts() -> None:
    assert [prompt.prompt for prompt in parse_lines("# one\n\n a cat \n  # two\na dog")] == ["a cat", "a dog"]


def test_toml_inherits_from_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text(
        '[prompt]\nwidth = 512\nheight = 768\nsample_steps = 28\nscale = 7.5\nseed = 42\nsample_sampler = "euler_a"\n'
        '[[prompt.subset]]\nprompt = "a cat"\nnegative_prompt = "bad, ugly"\n'
        '[[prompt.subset]]\nprompt = "a dog"\nscale = 3\n',
        encoding="utf-8",
    )
    first, second = read_sample_prompts(path)
    assert first == FULL
    assert (second.prompt, second.scale, second.width, second.negative_prompt) == ("a dog", 3.0, 512, "")


def test_json_takes_objects_lines_and_numbers_as_text(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    whole = {"prompt": "a cat", "negative_prompt": "bad, ugly", "width": "512", "height": 768.0, "seed": 42,
             "sample_steps": 28, "scale": "7.5", "sample_sampler": "euler_a", "enum": 0}  # fmt: skip
    path.write_text(json.dumps([whole, "a dog --d 3", {"prompt": "a bird", "seed": None}]), encoding="utf-8-sig")
    assert read_sample_prompts(path) == [FULL, SamplePrompt("a dog", seed=3), SamplePrompt("a bird")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"prompt": "a", "width": "wide"}]', "width is 'wide'"),
        ('[{"prompt": "a", "width": 512.5}]', "width is 512.5"),
        ('[{"prompt": "a", "seed": [1]}]', r"seed is \[1\]"),
        ('[{"prompt": "a", "sample_steps": 1e400}]', "sample_steps is inf"),
        ('[{"prompt": "a", "negative_prompt": 3}]', "negative_prompt is 3"),
        ('[{"width": 3}]', "a prompt has no text"),
        ("[3]", "3 is not a prompt"),
        ("{", "are not valid"),
    ],
)
def test_what_is_wrong_is_a_sentence(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AtelierError, match=words):
        read_sample_prompts(path)


def test_a_flag_that_wants_a_number_says_so() -> None:
    with pytest.raises(AtelierError, match="--w must be a number"):
        parse_line("a cat --w wide")


@pytest.mark.parametrize(
    ("line", "size", "words"),
    [
        ("a cat --w 99999", (4096, None), "asks for width 99999; it is drawn with 4096, since 64 to 4096 pixels"),
        ("a cat --h 8", (None, 64), "asks for height 8; it is drawn with 64"),
        ("a cat --s 5000", (None, None), "asks for steps 5000; it is drawn with 1000, since 1 to 1000"),
        ("a cat --w 515", (512, None), ""),
    ],
)
def test_values_beyond_their_bounds_are_told(line: str, size: tuple[int | None, int | None], words: str) -> None:
    """A side between the steps of 8 pixels is only rounded."""
    (prompt,) = parse_lines(line)
    assert (prompt.width, prompt.height) == size
    assert words in " ".join(prompt.remarks) and bool(prompt.remarks) is bool(words)
