"""The files of other languages: every text in them is one that the page shows, and the ones seen most are there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from atelier.ui.fields import shown_options
from tests.ui.language.words_shown import labels, panel_words, sentences_of, server_sentences, tab_texts

LANGUAGES = ("de_DE", "ja_JP", "zh_CN")
BRACES = re.compile(r"\{\w+\}")


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest, root: Path) -> dict[str, str]:
    pairs: list[tuple[str, str]] = []
    text = (root / "localizations" / f"{request.param}.json").read_text("utf-8")
    json.loads(text, object_pairs_hook=lambda found: pairs.extend(found))
    assert len(dict(pairs)) == len(pairs), "a text stands there twice"
    return dict(pairs)


def test_these_are_all_files_of_languages(root: Path) -> None:
    assert sorted(path.stem for path in (root / "localizations").iterdir()) == list(LANGUAGES)


def test_each_language_has_all_words_labels_and_sections(root: Path, tmp_path: Path, language: dict[str, str]) -> None:
    helps = {option.help for option in shown_options()}
    tab = [text for text in tab_texts(tmp_path) if text not in helps]
    wanted = [*panel_words(root), *server_sentences(root), *labels(), *tab, "Train LoRA"]
    assert len(wanted) > 300
    assert [text for text in wanted if re.search("[A-Za-z]", text) and text not in language] == []


def test_each_text_of_a_file_is_one_that_the_page_shows(root: Path, language: dict[str, str]) -> None:
    shown = {*panel_words(root), *labels(), *(option.help for option in shown_options())}
    made = sentences_of(root)
    assert [text for text in language if text not in shown and BRACES.sub("{}", text) not in made] == []


def test_each_translation_has_the_same_places_and_no_markup(language: dict[str, str]) -> None:
    for text, words in language.items():
        assert words.strip(), text
        assert sorted(BRACES.findall(words)) == sorted(BRACES.findall(text)), text
        assert not re.search(r"<(?!lora:NAME:1>)|&\w+;|\*\*|`", words), text


def test_what_the_page_listens_for_is_what_the_server_says(root: Path) -> None:
    made = sentences_of(root)
    assert [text for text in server_sentences(root) if BRACES.sub("{}", text) not in made] == []
