"""`run.py bench`: which cases, what a report holds, and that what is compared is really run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from atelier.bench import choices, steps
from atelier.bench.apart import apart
from atelier.cli import bench_command, main

SMALL = ["bench", "--models", "demo", "--precisions", "no", "--ranks", "8", "--checkpointing", "off", "--pairs", "2"]


def test_cases_without_and_with_wishes() -> None:
    options = bench_command.options(["--models", "demo,sdxl"])
    cases = {(c.shape.name, c.precision, c.gradient_checkpointing, c.rank) for c in bench_command.cases(options)}
    assert len(cases) == 16
    for place, values in ((0, {"demo", "sdxl"}), (1, {"no", "bf16"}), (2, {False, True}), (3, {8, 64})):
        assert {case[place] for case in cases} == values
    asked = bench_command.cases(bench_command.options(["--models", "sd15", "--ranks", "4", "--checkpointing", "on"]))
    assert [(case.precision, case.gradient_checkpointing, case.rank) for case in asked] == [
        ("no", True, 4), ("bf16", True, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [["--models", "sd3"], ["--precisions", "fp16"], ["--ranks", "0"], ["--ranks", "x"]])
def test_what_there_is_not_is_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *wrong])
    assert ended.value.code == 2 and wrong[0] in capsys.readouterr().err


@pytest.mark.slow
def test_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (case,) = report["cases"]
    assert report["step_ratio"] == case["step_ratio"] and 0.5 < case["step_ratio"] < 3
    assert case["bare_seconds"] > 0 and case["save_seconds"] > 0
    assert case["first_step_seconds"] > case["step_seconds"] > 0
    assert {"data", "text", "forward", "backward", "optimizer", "host turn"} <= set(case["parts_seconds"])
    assert case["peak_memory_bytes"] > 100 * 2**20
    assert f"{case['step_ratio']:.3f}" in capsys.readouterr().out


@pytest.mark.slow
def test_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The last one is torch.compile, which takes a compiler and a minute.
    monkeypatch.setattr(choices, "WAYS", choices.WAYS[:-1])
    assert main([*SMALL, "--choices", "--json", str(tmp_path / "choices.json")]) == 0
    rows = json.loads((tmp_path / "choices.json").read_text(encoding="utf-8"))
    assert len(rows) == 3 and all(row["ratio"] > 0 and row["once"] >= 0 for row in rows)


@pytest.mark.parametrize(("seconds", "pays"), [(0.5, 20.0), (1.5, None)])
def test_when_a_choice_pays(seconds: float, pays: float | None) -> None:
    choice = choices.Choice("a choice", "demo", "no", plain_seconds=1.0, seconds=seconds, once=10.0)
    assert choice.pays_after == pays
    assert ("pays after 20 steps" if pays else "never pays") in str(choice)


def test_a_process_that_is_killed_ends_the_bench() -> None:
    with pytest.raises(BrokenProcessPool):
        apart(os._exit, 1)


@pytest.mark.slow
def test_another_command_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are run, ours first in each pair, by a clock that is set: a command this short takes any time.

    Ours is really run in the first pair alone, as starting it takes seconds.
    """
    mark = tmp_path / "ran"
    theirs = [sys.executable, "-c", f"open({str(mark)!r}, 'a').write('x')"]
    seconds = [3.0, 1.0, 10.0, 2.0, 1.0, 1.0]
    taken: list[float] = []

    def timed(work: Callable[[], object]) -> float:
        taken.append(seconds[len(taken)])
        if len(taken) not in (3, 5):
            work()
        return taken[-1]

    with monkeypatch.context() as patch:
        patch.setattr(steps, "timed", timed)
        found = bench_command.against(theirs, runs=2, steps=1)
        with pytest.raises(subprocess.CalledProcessError):
            bench_command.against([sys.executable, "-c", "raise SystemExit(3)"], runs=1, steps=1)
    assert len(taken) == 6
    assert mark.read_text(encoding="utf-8") == "xx"
    assert (found["our_seconds"], found["their_seconds"], found["ratio"]) == (6.5, 1.5, 4.0)
    assert found["ratio"] == pytest.approx(found["our_seconds"] / found["their_seconds"], rel=0.5)
