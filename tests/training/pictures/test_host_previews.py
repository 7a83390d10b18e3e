"""Samples drawn by the host: with its settings where a prompt gives none, with the LoRA so far, without a trace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from atelier.adapters.files.kohya_file import read_lora
from atelier.hosts.contract import SampleRequest
from tests.support.training_fakes import Run, TinyHost, assert_same, run, tiny_job, write_pictures

PROMPTS = "a zwx --s 2 --w 64 --h 64 --d 5\na dog"
USUAL = SampleRequest("", "ugly", 48, 40, 3, 2.5, sampler="DPM++ 2M", scheduler="Karras")


@dataclass
class Asked:
    """One request to the host, and what its LoRA file held at that time."""

    request: SampleRequest
    tensors: int


class DrawingHost(TinyHost):
    """Has settings of its own, and notes what it is asked to draw."""

    def __init__(self, root: Path, fails: Exception | None = None, draws: bool = True) -> None:
        super().__init__(root)
        self.asked: list[Asked] = []
        self.fails, self.draws = fails, draws

    def usual_request(self) -> SampleRequest:
        return USUAL

    def sample(self, request: SampleRequest) -> Image.Image | None:
        with self.queue:  # not re-entrant: a turn that is held would hang here
            name = request.prompt.split("<lora:")[1].split(":")[0]
            self.asked.append(Asked(request, len(read_lora(self.folders.lora / f"{name}.safetensors").tensors)))
        if self.fails is not None:
            raise self.fails
        return Image.new("RGB", (request.width, request.height)) if self.draws else None


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def plain(pictures: Path, tmp_path: Path) -> Run:
    return run(tiny_job(pictures), tmp_path / "plain")


def sampled(pictures: Path, host: TinyHost, **changes: object) -> Run:
    job = tiny_job(pictures, sample_with="host", sample_prompts=PROMPTS, sample_every_n_steps=2, **changes)
    return run(job, host.folders.root, host=host)


def test_a_prompt_goes_before_what_the_person_draws_with(pictures: Path, plain: Run, tmp_path: Path) -> None:
    host = DrawingHost(tmp_path / "host")
    done = sampled(pictures, host)
    own, usual = (asked.request for asked in host.asked[:2])
    assert own.prompt.startswith("a zwx <lora:tiny-sample-") and usual.prompt.startswith("a dog <lora:tiny-sample-")
    assert replace(own, prompt="") == replace(USUAL, width=64, height=64, steps=2, seed=5)
    assert replace(usual, prompt="", seed=0) == USUAL and usual.seed > 0
    assert [asked.request.seed for asked in host.asked] == [5, usual.seed] * 2
    assert all(asked.tensors == len(done.tensors) for asked in host.asked)
    assert len({asked.request.prompt for asked in host.asked}) == 4
    assert [(step, index, picture.size) for step, index, _, picture in done.record.pictures] == [
        (step, index, size) for step in (2, 4) for index, size in enumerate([(64, 64), (48, 40)])
    ]
    assert "tiny-sample" not in " ".join(done.files)
    assert_same(done.tensors, plain.tensors)


def test_a_named_sampler_comes_without_the_hosts_schedule(pictures: Path, tmp_path: Path) -> None:
    host = DrawingHost(tmp_path / "host")
    job = tiny_job(pictures, sample_with="host", sample_prompts="a dog --ss k_euler", sample_at_first=True)
    run(job, host.folders.root, host=host)
    assert (host.asked[0].request.sampler, host.asked[0].request.scheduler) == ("Euler", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host_is", "words"), [({"fails": KeyError("no")}, "could not draw it"), ({"draws": False}, "cannot draw samples")]
)
def test_a_host_that_cannot_draw_is_told(
    host_is: dict[str, object], words: str, pictures: Path, plain: Run, tmp_path: Path
) -> None:
    host = DrawingHost(tmp_path / "host", **host_is)  # type: ignore[arg-type]
    done = sampled(pictures, host)
    assert done.record.pictures == [] and done.record.told(words)
    assert "tiny-sample" not in " ".join(done.files)
    assert_same(done.tensors, plain.tensors)


def test_the_embedded_host_draws_what_the_saved_file_draws(pictures: Path, tmp_path: Path) -> None:
    host = TinyHost(tmp_path / "host")
    done = sampled(pictures, host, save_every_n_steps=2)
    first = next(picture for step, index, _, picture in done.record.pictures if (step, index) == (2, 0))
    usual = host.usual_request()
    request = replace(usual, prompt="a zwx <lora:tiny-step00000002:1>", width=64, height=64, steps=2, seed=5)
    again = host.sample(request)
    assert again is not None and again.tobytes() == first.tobytes()
    bare = host.sample(replace(request, prompt="a zwx"))
    assert bare is not None and bare.tobytes() != first.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"train_whole_model": True}, {"base_weights": ["<lora>"]}])
def test_another_base_than_the_hosts_is_drawn_by_our_own_sampler(
    changes: dict[str, object], pictures: Path, plain: Run, tmp_path: Path
) -> None:
    if "base_weights" in changes:
        changes = {"base_weights": [str(plain.outcome.path)]}
    host = DrawingHost(tmp_path / "host")
    done = sampled(pictures, host, **changes)
    assert host.asked == [] and len(done.record.pictures) == 4 and done.record.told("Samples are drawn by Atelier")
