"""Links, names of files, labels and messages in README, guide and docs are those that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from atelier.config.settings.option import GROUPS
from atelier.config.settings.schema import options
from tests.docs.pages import Files, Page, broken_links

# -- links -------------------------------------------------------------------------------------------------------------


def test_links_lead_somewhere(root: Path, texts: list[Page]) -> None:
    assert sum(len(each.links) for each in texts) > 80
    assert sum(link.endswith(".png") for each in texts for link in each.links) >= 10
    wrong = [sentence for each in texts for sentence in broken_links(root, each)]
    assert not wrong, "\n".join(wrong)


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    text = "# One *thing*\n[a](page.md#one-thing) [b](gone.md) ![c](../out.png) [d](#two) [e](https://x.y) `[f](g)`\n"
    (tmp_path / "inside").mkdir()
    (tmp_path / "out.png").write_bytes(b"")
    found = Page.write(tmp_path / "inside", text)
    assert found.links == ["page.md#one-thing", "gone.md", "../out.png", "#two"]
    wrong = broken_links(tmp_path / "inside", found)
    assert [sentence.split()[1] for sentence in wrong] == ["gone.md", "../out.png", "#two"]


def test_pictures_are_shown_somewhere(root: Path, texts: list[Page]) -> None:
    shown = {(each.path.parent / link).resolve() for each in texts for link in each.links}
    unused = [path.name for path in (root / "docs").rglob("*.png") if path.resolve() not in shown]
    assert not unused


def test_every_guide_page_is_linked_from_the_readme(root: Path, texts: list[Page]) -> None:
    readme = next(each for each in texts if each.name == "README.md")
    guide = {each.name for each in texts if each.name.startswith("docs/") and each.name.endswith(".md")}
    assert len(guide) >= 10
    assert not guide - {link.partition("#")[0] for link in readme.links}


# -- names of files ----------------------------------------------------------------------------------------------------


def test_files_that_are_named_are_there(root: Path, texts: list[Page]) -> None:
    files = Files(root)
    asked = [(each.name, name) for each in texts for name in each.files()]
    answers = [(where, name, files.lacks(name)) for where, name in asked]
    assert sum(lacks is not None for _, _, lacks in answers) > 60
    wrong = [f"{where}: there is no {name}" for where, name, lacks in answers if lacks]
    assert not wrong, "\n".join(wrong)


def test_a_file_that_is_gone_is_seen(root: Path, tmp_path: Path) -> None:
    files = Files(root)
    text = (
        "`lib/atelier/gone.py` `cli/gone.py` `test_gone.py` `tests/test_gone_*.py` `lib/atelier/__init__.py` `run.py`"
    )
    names = list(Page.write(tmp_path, text).files())
    assert [files.lacks(name) for name in names] == [True, True, True, True, False, False]
    assert files.lacks("my.toml") is None
    assert files.lacks("data/loras/x.png") is None


# -- labels ------------------------------------------------------------------------------------------------------------

_PLACE = re.compile(r"Advanced, ([A-Z][a-z]+(?: [a-z]+)*)")


def wrong_labels(text: str, more: str) -> tuple[int, list[str]]:
    """In sentences that send somebody to a group of Advanced: how many labels they name, and those not in it.

    `more` is where labels stand that are no setting's.
    """
    count, wrong = 0, []
    for sentence in re.split(r"(?<=[.:?!])(?:\*\*)?\s+|\n\n|\n(?=[-|\d])", text):
        places = _PLACE.findall(sentence)
        groups = {"Basics" if place == "Model" else place for place in places}
        wrong += [f"there is no group {group}" for group in groups if group not in GROUPS]
        labels = {option.label for option in options() if option.group in groups}
        for label in re.findall(r"\*\*([^*]+)\*\*", sentence) if places else ():
            count += 1
            if " ".join(label.split()) not in labels and f'"{" ".join(label.split())}"' not in more:
                wrong.append(f"{label} is not in {', '.join(sorted(groups))}")
    return count, wrong


def test_labels_are_those_of_the_tab(root: Path, texts: list[Page]) -> None:
    more = "\n".join(path.read_text(encoding="utf-8") for path in (root / "lib" / "atelier" / "ui").rglob("*.py"))
    found = [(each.name, *wrong_labels(each.text, more)) for each in texts if each.name.startswith("docs/")]
    assert sum(count for _, count, _ in found) >= 10
    wrong = [f"{name}: {sentence}" for name, _, sentences in found for sentence in sentences]
    assert not wrong, "\n".join(wrong)


def test_a_label_that_is_gone_is_seen() -> None:
    assert wrong_labels("Under Advanced, Network, set **Rank**.", "") == (1, [])
    assert wrong_labels("Under Advanced, Learning, set **Rank**.", "") == (1, ["Rank is not in Learning"])
    assert wrong_labels("Under Advanced, Nothing, wait.", "")[1] == ["there is no group Nothing"]


# -- GitHub's files ----------------------------------------------------------------------------------------------------


def test_the_workflow_calls_what_is_there(root: Path) -> None:
    workflow = yaml.safe_load((root / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    assert set(jobs) == {"lint", "tests", "windows"}
    assert {"3.10", "3.11", "3.13"} <= set(jobs["tests"]["strategy"]["matrix"]["python"])
    runs = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert runs["tests"] == [".ci/run"]
    assert (root / ".ci" / "run").is_file()
    assert runs["lint"] == ["python run.py lint"]
    assert runs["windows"] == ["python run.py test --quick"]


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_issue_forms_can_be_filled_in(root: Path, name: str) -> None:
    form = yaml.safe_load((root / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8"))
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len(fields) >= 3
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    ids = [field["id"] for field in fields]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in fields)
    if name == "bug":
        assert {"webui", "webui_version", "version", "flags", "card", "log", "report"} <= set(ids)


# -- messages ----------------------------------------------------------------------------------------------------------

SAID_BY_OTHERS = (
    "extension access disabled because of command line flags",
    "Extension directory already exists",
    "Disable all extensions",
    "Error loading script",
    "Shared GPU memory",
    "Use Installed tab to restart",
    "Restart required",
    "Extension update complete | Restart required",
)
"""By the WebUIs, and by Windows."""


def messages(text: str) -> list[str]:
    """What stands in quotation marks, in pieces of at least three words: … stands for what differs each time."""
    paragraphs = re.split(r"\n\n|\n(?= *(?:[-*|]|\d+\.) )", text)
    quotes = [quote for each in paragraphs for quote in re.findall(r'"([^"]+)"', " ".join(each.split()))]
    pieces = [piece.strip(" .?;:,|") for quote in quotes for piece in quote.split("…")]
    return [piece for piece in pieces if len(piece.split()) > 2]


def source_text(root: Path) -> str:
    """All that the program can say, strings that go over several lines joined."""
    files = [*root.glob("*.py"), *(root / "javascript").glob("*.js"), *(root / "lib").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return " ".join(re.sub(r'"\s*\n\s*(?:\+ )?f?"', "", text).split())


def test_messages_are_those_of_the_program(root: Path, texts: list[Page]) -> None:
    source = source_text(root)
    guide = [each for each in texts if each.name.startswith("docs/guide/")]
    asked = [(each.name, piece) for each in guide for piece in messages(each.text)]
    assert len(asked) > 12
    wrong = [f"{name}: {piece}" for name, piece in asked if piece not in source and piece not in SAID_BY_OTHERS]
    assert not wrong, "\n".join(wrong)


def test_a_message_that_is_gone_is_seen() -> None:
    assert messages('It says "There is no folder …: check it." or "the\nspelling of it", "so".\n\nOne " more') == [
        "There is no folder",
        "the spelling of it",
    ]
