"""The report as text, to be pasted into an issue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from atelier.config.settings.option import GROUPS
from atelier.config.settings.schema import options
from atelier.report import machine
from atelier.report.anonymise import Anonymiser
from atelier.report.private import add_folder, add_machine, add_run
from atelier.report.runs import Run, error_lines, newest_runs
from atelier.report.words import PrivateWords

LONGEST = 50_000
"""Letters: what GitHub takes in one message, with room for other words."""
HEADING = (
    "Report of Atelier. Names, folders, prompts, trigger words, tokens and addresses were taken out. "
    "Please read it before you post it: no program knows all that is private to you."
)


def report(runs: Sequence[Path], webui: str, arguments: Sequence[str], more: Iterable[str] = ()) -> str:
    """The whole report, without what is private.

    `runs` are folders of records, `webui` is the WebUI and its version, `arguments` what it was started with, and
    `more` are further lines about it. Nothing is raised for what is missing or damaged.
    """
    found = sorted((run for folder in runs for run in newest_runs(folder)), key=_age, reverse=True)
    hide = anonymiser([run.folder for run in found], [machine.ROOT, *runs])
    data = next((folder for folder in runs if folder.is_dir()), None)
    parts = {
        "Atelier": [machine.atelier_line()],
        "WebUI": [hide.text(webui), f"flags: {machine.flags_line(arguments)}", *map(hide.text, more)],
        "System": [hide.text(machine.system_line()), *machine.memory_lines(data)],
        "Card": list(machine.card_lines()),
        "Packages": list(machine.package_lines()),
        "Last errors": list(error_lines(found, hide)),
    }
    lines = [HEADING]
    for title, content in parts.items():
        lines += ["", f"{title}:", *(f"  {line}".rstrip() for line in content)]
    text = "\n".join(lines)
    return text + "\n" if len(text) < LONGEST else f"{text[:LONGEST]}\n…\n"


def anonymiser(records: Iterable[Path], folders: Iterable[Path] = ()) -> Anonymiser:
    """What knows the private words of this machine, of the records in `records` and of the program's `folders`."""
    words = PrivateWords()
    add_machine(words)
    for folder in folders:
        add_folder(words, folder)
    for record in records:
        add_run(words, record)
    return Anonymiser(words, frozenset(option.label for option in options()) | frozenset(GROUPS))


def _age(run: Run) -> float:
    created = (run.head.get("about") or {}).get("created") if isinstance(run.head.get("about"), dict) else None
    return created if isinstance(created, (int, float)) else 0.0
