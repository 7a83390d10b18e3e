"""`run.py gpu`: every case runs, on small shapes where there is no GPU, and the report says what was seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.bench.gpu.case import Case, Found, LeftOut, all_cases
from atelier.bench.gpu.machine import GB, Machine
from atelier.bench.gpu.report import run_cases
from atelier.cli import main

CPU = torch.device("cpu")
NAMES = [case.name for case in all_cases()]


class Pretended(Machine):
    """A GPU by its own account."""

    is_gpu = True  # type: ignore[assignment]

    def described(self) -> dict[str, Any]:
        return {"card": "pretended"}

    def free_everything(self) -> None: ...


def case(name: str, order: int, run: Any, seconds: float = 10.0) -> Case:
    return Case(name, f"What is {name}?", order, seconds, run)


def test_the_most_telling_cases_come_first_and_each_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES)) >= 12
    assert NAMES.index("black_pictures") < NAMES.index("kinds") < NAMES.index("memory") < NAMES.index("against")
    orders = [case.order for case in all_cases()]
    assert orders == sorted(set(orders)), "no two cases have the same place"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "against"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the shapes are the real ones: run.py gpu")
def test_every_case_runs_on_small_shapes(name: str, tmp_path: Path) -> None:
    machine = Machine(CPU, tmp_path)
    [found] = [each for each in all_cases() if each.name == name]
    (tmp_path / "out").mkdir()
    report = run_cases([found], machine, tmp_path / "out" / "report.json", 1.0, lambda line: None)
    [row] = report["cases"]
    assert row["verdict"] in ("holds", "measured"), row
    assert row["says"] and row["figures"]
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["cases"][0]["name"] == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"], "what a case wrote is gone"


def test_what_fails_what_is_refuted_and_what_is_left_out_is_in_the_report(tmp_path: Path) -> None:
    clock = iter(range(0, 10_000, 20))
    told: list[str] = []

    def refuted(machine: Machine) -> Found:
        return Found(False, "it is not", {"seen": 1})

    def fails(machine: Machine) -> Found:
        raise RuntimeError("no kernel image\nis available")

    def cannot(machine: Machine) -> Found:
        raise LeftOut("nothing to compare with")

    cases = [case("a", 1, refuted), case("b", 2, fails), case("c", 3, cannot), case("long", 4, refuted, 500.0)]
    machine = Pretended(CPU, tmp_path)
    file = tmp_path / "report.json"
    report = run_cases(cases, machine, file, 5.0, told.append, lambda: float(next(clock)))
    assert [row["verdict"] for row in report["cases"]] == ["REFUTED", "FAILED", "left out", "left out"]
    assert report["cases"][1]["says"] == "RuntimeError: no kernel image" and "fails" in report["cases"][1]["traceback"]
    assert "s are left" in report["cases"][3]["says"]
    assert json.loads(file.read_text(encoding="utf-8")) == report
    assert any("REFUTED" in line and "it is not" in line for line in told)


def test_a_report_is_whole_after_each_case(tmp_path: Path) -> None:
    """Time can end at any moment."""
    file = tmp_path / "report.json"
    seen: list[int] = []

    def look(machine: Machine) -> Found:
        seen.append(len(json.loads(file.read_text(encoding="utf-8"))["cases"]) if file.exists() else 0)
        return Found(None, "looked", {})

    run_cases(
        [case(str(number), number, look) for number in range(3)], Machine(CPU, tmp_path), file, 1.0, lambda _: None
    )
    assert seen == [0, 1, 2]


def test_a_smaller_card_is_a_share_of_this_one_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: shares.append(share))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (GB, 80 * GB))
    with pytest.raises(ValueError), Pretended(CPU, tmp_path).kept_to(8 * GB):
        raise ValueError
    assert shares == [0.1, 1.0]


def test_the_command_names_unknown_cases_and_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "--out", str(tmp_path), "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == NAMES
    assert main(["gpu", "--out", str(tmp_path), "--only", "kinds,colour"]) == 1
    assert "There is no case colour" in capsys.readouterr().err


def test_another_trainers_command_is_left_out_unless_it_is_given(tmp_path: Path) -> None:
    assert main(["gpu", "--out", str(tmp_path), "--only", "against"]) == 0
    [row] = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cases"]
    assert row["verdict"] == "left out" and row["says"] == "no --against"


def test_the_docs_name_every_case(root: Path) -> None:
    text = (root / "docs" / "performance.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"| `{name}` |" not in text] == []
