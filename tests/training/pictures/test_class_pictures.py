"""Class pictures: as many as are missing, by the host or by our own sampler, used again, and seen in what is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.config.imports.loading import load_job
from atelier.config.job import job_from_settings
from atelier.hosts.contract import SampleRequest
from atelier.jobs.control import Control
from atelier.training.pictures.class_pictures import class_folders
from atelier.training.run import prepare
from tests.support.training_fakes import MemoryRecord, Run, TinyHost, run, tiny_job, write_pictures

PROMPT = "a photo of a dog"
SMALL = SampleRequest("", steps=2, cfg_scale=1.0, negative_prompt="ugly")


class ClassHost(TinyHost):
    """Notes what it draws; takes two steps for a picture. `own`: has no sampler, so ours is used."""

    def __init__(self, root: Path, own: bool = False) -> None:
        super().__init__(root)
        self.asked: list[SampleRequest] = []
        self.own = own
        self.on_sample = lambda: None

    def usual_request(self) -> SampleRequest:
        return SMALL

    def sample(self, request: SampleRequest) -> Image.Image | None:
        self.asked.append(request)
        self.on_sample()
        return None if self.own else super().sample(request)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def classes(host: TinyHost) -> list[Path]:
    """The class pictures in the host's cache."""
    return sorted((host.folders.cache / "class_pictures").rglob("*.png"))


def job(pictures: Path, **changes: Any) -> Any:
    return tiny_job(pictures, **{"class_prompt": [PROMPT], "num_class_images": 3, "max_train_steps": 2, **changes})


@pytest.mark.parametrize("whole", [False, True])
def test_they_are_drawn_once_and_learnt(whole: bool, pictures: Path, tmp_path: Path) -> None:
    host = ClassHost(tmp_path / "host")
    done = run(job(pictures, train_whole_model=whole), tmp_path / "a", host=host)
    assert [(asked.prompt, asked.negative_prompt, asked.steps) for asked in host.asked] == [(PROMPT, "ugly", 2)] * 3
    assert len({asked.seed for asked in host.asked}) == 3
    drawn = classes(host)
    assert [path.name for path in drawn] == [f"class-{number:05d}.png" for number in (1, 2, 3)]
    assert len({path.read_bytes() for path in drawn}) == 3
    assert {path.with_suffix(".txt").read_text(encoding="utf-8") for path in drawn} == {PROMPT + "\n"}
    if not whole:
        assert int(done.metadata["ss_num_reg_images"]) >= 3
    before = [path.read_bytes() for path in drawn]
    drawn[1].unlink()
    run(job(pictures, num_class_images=4), tmp_path / "b", host=host)
    assert len(host.asked) == 5 and host.asked[3] == host.asked[1]
    assert [path.read_bytes() for path in classes(host)[:3]] == before


def test_what_is_learnt_is_another_thing_with_them(pictures: Path, tmp_path: Path) -> None:
    def weights(found: Run) -> list[torch.Tensor]:
        return list(found.tensors.values())

    with_them = run(job(pictures, train_batch_size=8), tmp_path / "a", host=ClassHost(tmp_path / "a"))
    without = run(tiny_job(pictures, max_train_steps=2, train_batch_size=8), tmp_path / "b")
    assert any(not torch.equal(ours, theirs) for ours, theirs in zip(weights(with_them), weights(without)))


def test_without_a_sampler_of_the_hosts_ours_draws(pictures: Path, tmp_path: Path) -> None:
    host, other = ClassHost(tmp_path / "own", own=True), ClassHost(tmp_path / "host")
    prepare(job(pictures), host, MemoryRecord(tmp_path / "record"), Control())
    prepare(job(pictures), other, MemoryRecord(tmp_path / "record"), Control())
    assert [path.read_bytes() for path in classes(host)] == [path.read_bytes() for path in classes(other)]
    assert len(classes(host)) == 3 and host.leases == []


def test_each_class_and_each_model_has_pictures_of_its_own(pictures: Path, tmp_path: Path) -> None:
    host = ClassHost(tmp_path / "host")
    asked = job(pictures, class_prompt=[PROMPT, "a cat"], num_class_images=1)
    prepare(asked, host, MemoryRecord(tmp_path / "record"), Control())
    assert [request.prompt for request in host.asked] == [PROMPT, "a cat"]
    assert len({path.parent for path in classes(host)}) == 2
    host.put(host.parts, "another")
    prepare(asked, host, MemoryRecord(tmp_path / "record"), Control())
    assert len(host.asked) == 4


def test_a_folder_of_the_persons_is_filled_up(pictures: Path, tmp_path: Path) -> None:
    host = ClassHost(tmp_path / "host")
    write_pictures(tmp_path / "classes" / "1_a dog", 2)
    asked = job(pictures, class_prompt=[], num_class_images=3, reg_data_dir=str(tmp_path / "classes"))
    context = prepare(asked, host, MemoryRecord(tmp_path / "record"), Control())
    assert [request.prompt for request in host.asked] == ["a dog"]
    assert len(context.data.scan.regularisation) == 3 and classes(host) == []


def test_a_dataset_file_gives_each_class_its_folder(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text(
        f"dataset_config = 'data.toml'\noutput_name = 'x'\ntrigger = 'zwx'\nnum_class_images = 2\nresolution = '64'\n"
        f"network_module = 'networks.lora'\noutput_dir = '{(tmp_path / 'out').as_posix()}'\n",
        encoding="utf-8",
    )
    dogs = (tmp_path / "dogs").as_posix()
    (tmp_path / "data.toml").write_text(
        f"[[datasets]]\nbatch_size = 2\n[[datasets.subsets]]\nimage_dir = '{pictures.as_posix()}'\n"
        f"[[datasets.subsets]]\nimage_dir = '{dogs}'\nis_reg = true\nclass_tokens = 'a dog'\n",
        encoding="utf-8",
    )
    host = ClassHost(tmp_path / "host")
    context = prepare(load_job(tmp_path / "train.toml"), host, MemoryRecord(tmp_path / "record"), Control())
    assert len(list((tmp_path / "dogs").glob("*.png"))) == 2
    assert [picture.caption for picture in context.data.scan.regularisation] == ["a dog", "a dog"]


def test_stop_leaves_what_is_drawn(pictures: Path, tmp_path: Path) -> None:
    host, control = ClassHost(tmp_path / "host"), Control()
    host.on_sample = lambda: control.stop() if len(host.asked) == 2 else None
    done = run(job(pictures), tmp_path / "run", host=host, control=control)
    assert done.outcome.state == "stopped" and len(classes(host)) == 2


def test_another_model_in_between_is_waited_for(pictures: Path, tmp_path: Path) -> None:
    host, record = ClassHost(tmp_path / "host"), MemoryRecord(tmp_path / "record")
    parts = host.parts
    host.on_sample = lambda: host.put(parts, "another") if len(host.asked) == 1 else None
    record.on_status["waiting"] = lambda: host.put(parts)
    prepare(job(pictures), host, record, Control())
    assert len(host.asked) == 3 and "waiting" in [state for state, _ in record.statuses]


def test_what_cannot_be_drawn_is_a_sentence(pictures: Path, tmp_path: Path) -> None:
    host = ClassHost(tmp_path / "host")
    record = MemoryRecord(tmp_path / "record")

    def fail() -> None:
        raise KeyError("no")

    host.on_sample = fail
    with pytest.raises(AtelierError, match="could not draw the class picture"):
        prepare(job(pictures), host, record, Control())
    with pytest.raises(AtelierError, match="there is no class"):
        prepare(job(pictures, class_prompt=[]), host, record, Control())
    with pytest.raises(AtelierError, match=r"Class pictures to draw \(num_class_images\) is empty"):
        prepare(job(pictures, num_class_images=None), host, record, Control())


def test_a_picture_that_cannot_be_saved_leaves_no_half_of_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, save = ClassHost(tmp_path / "host"), Image.Image.save

    def full(picture: Image.Image, path: Path, **more: Any) -> None:
        save(picture, path, **more)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(AtelierError, match=r"class-00001\.png .*No space left on device"):
        prepare(job(pictures), host, MemoryRecord(tmp_path / "record"), Control())
    left = [path.name for path in (host.folders.cache / "class_pictures").rglob("*") if path.is_file()]
    assert [name for name in left if not name.endswith(".txt")] == []
    monkeypatch.undo()
    prepare(job(pictures), host, MemoryRecord(tmp_path / "record"), Control())
    assert len(classes(host)) == 3 and not list((host.folders.cache / "class_pictures").rglob("*.part"))


def test_other_jobs_are_as_they_were(pictures: Path, tmp_path: Path) -> None:
    host = ClassHost(tmp_path / "host")
    plain = tiny_job(pictures)
    model = host.loaded_model()
    assert model is not None and class_folders(plain, host, model) == (plain.datasets, [])
    assert job_from_settings(plain.settings).datasets == plain.datasets
