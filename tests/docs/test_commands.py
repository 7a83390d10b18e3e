"""Command lines in README, guide, docs and GitHub's files are understood by the program. None of them is run."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atelier.cli import COMMANDS, main
from atelier.cli.test_command import words as words_for_pytest
from atelier.config.settings.schema import options
from tests.docs.pages import Page


class Understood(Exception):
    """The command line was parsed. `rest`: what the command takes as settings."""

    def __init__(self, rest: list[str]) -> None:
        super().__init__()
        self.rest = rest


@contextlib.contextmanager
def only_parsing(arguments: list[str]) -> Iterator[None]:
    """Within it a command ends with `Understood` where its own parser has taken `arguments`."""
    own: list[str] | None = arguments
    if arguments and not arguments[0].startswith("-"):
        own = arguments[1:] if arguments[0] in COMMANDS else None
    plain = argparse.ArgumentParser.parse_known_args

    def parse(self: Any, args: Any = None, namespace: Any = None) -> Any:
        found, rest = plain(self, args, namespace)
        if args is not None and list(args) == own:
            raise Understood(rest)
        return found, rest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        patch.setattr(sys, "stderr", io.StringIO())
        patch.setattr(sys, "stdout", io.StringIO())
        yield


def trouble(arguments: list[str], config: pytest.Config, root: Path) -> str:
    """What is wrong with a command line of run.py, "" when nothing is. Nothing is run."""
    if arguments[:1] == ["test"]:
        return trouble_of_test(arguments[1:], config, root)
    try:
        with only_parsing(arguments):
            main(arguments)
    except Understood as understood:
        known = {option.key for option in options()}
        keys = [word[2:].partition("=")[0] for word in understood.rest if word.startswith("--")]
        if understood.rest and arguments[0] != "train":
            return f"{arguments[0]} does not know {understood.rest[0]}"
        return next((f"there is no setting {key}" for key in keys if key not in known), "")
    except SystemExit as end:
        return "" if end.code == 0 else "it is refused"
    return "it was run"


def trouble_of_test(arguments: list[str], config: pytest.Config, root: Path) -> str:
    """`run.py test` hands its words to pytest, `--quick` as what it stands for."""
    value = False
    for word in words_for_pytest(arguments):
        if word.startswith("-"):
            try:
                value = not isinstance(config.getoption(word.partition("=")[0]), bool) and "=" not in word
            except ValueError:
                return f"test does not know {word}"
        elif value:
            value = False
        elif not (root / word).exists():
            return f"there is no {word}"
    return ""


def test_commands_are_understood(root: Path, texts: list[Page], pytestconfig: pytest.Config) -> None:
    asked = [(each.name, words) for each in texts for words in each.commands]
    assert len(asked) > 25
    assert len({words[0] for _, words in asked if words}) >= 7
    answers = [(where, words, trouble(words, pytestconfig, root)) for where, words in asked]
    wrong = [f"{where}: run.py {' '.join(words)}: {said}" for where, words, said in answers if said]
    assert not wrong, "\n".join(wrong)


def test_commands_that_are_spoken_of_are_there(root: Path, texts: list[Page], pytestconfig: pytest.Config) -> None:
    asked = [(each.name, words) for each in texts for words in each.mentions if words[0] != "test"]
    assert asked
    for where, words in asked:
        assert trouble([*words, "--help"], pytestconfig, root) == "", f"{where}: run.py {' '.join(words)}"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("nothing", "it is refused"),
        ("bench --gone", "bench does not know --gone"),
        ("demo", "it is refused"),
        ("lora check", "it is refused"),
        ("train my.toml --max_train_step 3", "there is no setting max_train_step"),
        ("test --gone", "test does not know --gone"),
        ("test tests/gone.py", "there is no tests/gone.py"),
        ("test --webui http://127.0.0.1:7860 tests/gone.py", "there is no tests/gone.py"),
        ("test --quick tests/docs", ""),
        ("test --webui http://127.0.0.1:7860 --webui-dir DIR", ""),
        ("train my.toml --max_train_steps 3", ""),
        ("lora check my.safetensors", ""),
        ("--ckpt FILE", ""),
        ("bench --help", ""),
        ("", ""),
    ],
)
def test_a_wrong_command_is_seen(line: str, wrong: str, pytestconfig: pytest.Config, root: Path) -> None:
    assert trouble(line.split(), pytestconfig, root) == wrong


def test_commands_are_found(tmp_path: Path) -> None:
    text = "\n".join(
        ("```", "python run.py demo --out x # a word", "run.py  a file", "a launch --n 2 run.py train y", "```")
        + ("`run.py lora merge` and `run.py` and `python run.py --help`", "", "    python run.py", "")
    )
    found = Page.write(tmp_path, text)
    assert found.commands == [["demo", "--out", "x"], ["train", "y"], [], ["--help"]]
    assert found.mentions == [["lora", "merge"]]
    workflow = Page.write(tmp_path, "steps:\n  - run: python run.py test --quick\n", "ci.yml")
    assert workflow.commands == [["test", "--quick"]]
