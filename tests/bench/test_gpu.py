"""`run.py gpu`: every case runs, on small shapes where there is no GPU, and the report says what was seen."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.bench.gpu.case import Case, Found, LeftOut, all_cases
from atelier.bench.gpu.machine import GB, Machine
from atelier.bench.gpu.report import run_cases
from atelier.cli import main
from atelier.models.family import HasReleasedShape
from atelier.models.registry import family_named

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


def test_a_slow_device_leaves_the_rest_of_a_case_out_and_says_so(tmp_path: Path) -> None:
    """Each case has its share of the minutes; what it has measured until then counts."""
    done: list[int] = []

    def slow(machine: Machine) -> Found:
        for number in machine.in_time(range(3)):
            done.append(number)
            machine.until = float("-inf")  # as if a step had taken minutes
        return Found(None, f"{len(done)} of 3", {"done": done})

    told: list[str] = []
    report = run_cases([case("slow", 1, slow)], Machine(CPU, tmp_path), tmp_path / "report.json", 1.0, told.append)
    [row] = report["cases"]
    assert done == [0] and row["says"] == "1 of 3" and row["notes"] == ["no time for 2 of 3: 1, 2"]
    assert told[-1].strip() == "no time for 2 of 3: 1, 2"
    table = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| `slow` | measured |" in table and "no time for 2 of 3" in table and "torch " in table


def test_a_case_has_no_more_than_its_share_of_the_minutes(tmp_path: Path) -> None:
    left: list[float] = []

    def look(machine: Machine) -> Found:
        left.append(machine.until - time.monotonic())
        return Found(None, "", {})

    cases = [case("short", 1, look, 10.0), case("long", 2, look, 500.0)]
    run_cases(cases, Machine(CPU, tmp_path), tmp_path / "report.json", 5.0, lambda _: None)
    assert 19 < left[0] <= 20 and 290 < left[1] <= 300


def test_what_a_device_does_is_timed_between_two_of_its_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            calls.append(f"recorded on {stream}")

        def synchronize(self) -> None:
            calls.append("waited")

        def elapsed_time(self, other: object) -> float:
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert Pretended(CPU, tmp_path).seconds(lambda: calls.append("work")) == 0.25
    assert calls == ["recorded on stream", "work", "recorded on stream", "waited"]


@pytest.mark.slow
def test_another_trainers_command_gets_our_settings_and_is_timed_in_turn(tmp_path: Path) -> None:
    seen = tmp_path / "seen.txt"
    note = "import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + chr(10))"
    words = [sys.executable, "-c", note, str(seen), "{steps}", "{side}", "{rank}", "{pictures}", "{model}", "{config}"]
    out = tmp_path / "out"
    assert main(["gpu", "--out", str(out), "--only", "against", "--against", shlex.join(words)]) == 0
    [row] = json.loads((out / "report.json").read_text(encoding="utf-8"))["cases"]
    calls = [line.split() for line in seen.read_text(encoding="utf-8").splitlines()]
    assert [call[0] for call in calls] == ["10", "40", "10", "40"]
    assert all(call[1:3] == ["32", "16"] and call[4].endswith("base.safetensors") for call in calls)
    assert len({call[5] for call in calls}) == 4 and all(call[5].endswith(".toml") for call in calls)
    assert len(row["figures"]["theirs"]["40"]) == len(row["figures"]["ours"]["40"]) == 2
    assert "a step: ours" in row["says"] and len(row["figures"]["step"]) == 2


def test_another_trainers_command_is_left_out_unless_it_is_given(tmp_path: Path) -> None:
    assert main(["gpu", "--out", str(tmp_path), "--only", "against"]) == 0
    [row] = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cases"]
    assert row["verdict"] == "left out" and row["says"] == "no --against"


def test_the_docs_name_every_case(root: Path) -> None:
    text = (root / "docs" / "performance.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize(("name", "weights"), [("sd1", 859_520_964), ("sd2", 865_910_724), ("sdxl", 2_567_463_684)])
def test_bases_have_the_shapes_of_the_released_models(name: str, weights: int) -> None:
    """Without memory: they are filled on the device."""
    family = family_named(name)
    assert isinstance(family, HasReleasedShape)
    parts = family.empty()
    assert sum(parameter.numel() for parameter in parts.denoiser.parameters()) == weights
    assert all(parameter.is_meta for parameter in parts.parameters()) and len(parts.tokenizers) == len(
        parts.text_encoders
    )
