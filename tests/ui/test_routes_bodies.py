"""Any body gets a clear answer: never a traceback, never a file outside the folders."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from atelier.config.job import job_from_dict, job_to_dict  # noqa: E402
from atelier.config.kohya.verdicts import UNKNOWN, training_verdict  # noqa: E402
from atelier.config.names import check_output_name  # noqa: E402
from atelier.config.settings.named import CODE_SETTINGS, PATH_SETTINGS, PRIVATE_SETTINGS  # noqa: E402
from atelier.config.settings.schema import options  # noqa: E402
from atelier.ui.fields import SUGGESTED  # noqa: E402
from tests.support.jobs_fakes import PATIENCE  # noqa: E402
from tests.ui.test_routes import Site  # noqa: E402

KEYS = [option.key for option in options()]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    made.train.finish()
    yield made
    made.jobs.close(PATIENCE)


def check(site: Site, answer: Any) -> None:
    """A run was started, or a sentence says why not; every file is below the site's folders."""
    assert answer.status_code in (200, 400, 403, 409, 413), answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error
        assert "Traceback" not in error
    root = site.host.folders.runs.parent
    assert {path.name for path in root.iterdir()} <= {"lora", "checkpoints", "runs", "cache", "pictures"}


def leaves(asked: dict[str, Any]) -> list[str]:
    """The keys of settings, without the names of sections."""
    found = []
    for key, value in asked.items():
        found += [key] if not isinstance(value, dict) else leaves(value)
    return found


def check_started(site: Site, answer: Any, asked: dict[str, Any]) -> None:
    """The run that was started is one that the schema allows, and lies where runs lie."""
    job = site.jobs.get(answer.json()["id"])
    folder = job.record.folder.resolve()
    assert folder.parent == site.host.folders.runs.resolve()
    assert check_output_name(job.name) == job.name == asked["output_name"]
    unknown = [key for key in leaves(asked) if training_verdict(key).verdict == UNKNOWN]
    remarks = " ".join(answer.json()["remarks"])
    assert all(key in remarks for key in unknown), "no key is passed over in silence"
    for option in options():
        value = getattr(job.config.settings, option.key)
        numbers = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, (int, float))]
        assert all(math.isfinite(each) for each in numbers), option.key
        if option.kind in ("int", "float", "int_or_float", "floats"):
            assert all(option.minimum is None or each >= option.minimum for each in numbers), option.key
            assert all(option.maximum is None or each <= option.maximum for each in numbers), option.key
        if option.choices and value is not None and option.key not in SUGGESTED:
            assert value in option.choices, option.key
    assert job_from_dict(job_to_dict(job.config)) == dataclasses.replace(job.config, notes=[])


def check_refused(site: Site, answer: Any) -> None:
    """Nothing was started, and a person can read why."""
    check(site, answer)
    assert answer.status_code != 200, answer.text
    assert not re.search(r"object at 0x|<class|\w+Error\b|failed unexpectedly", answer.json()["error"])


COUNTER = itertools.count()


@settings(FUZZ, max_examples=40)
@given(asked=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=12), VALUES, max_size=2))
def test_what_is_started_is_allowed(site: Site, asked: dict[str, Any]) -> None:
    """Each under a name of its own, as a name that is taken would hide what else is wrong."""
    usual = {"train_data_dir": str(site.pictures), "output_name": f"allowed {next(COUNTER)}"}
    asked = {**asked, **usual}
    answer = site.post("/jobs", content=json.dumps({"settings": asked}), headers={"content-type": "application/json"})
    if answer.status_code == 200:
        check_started(site, answer, asked)
    else:
        check_refused(site, answer)


@FUZZ
@given(asked=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=12), VALUES, max_size=5))
def test_json_settings(site: Site, asked: dict[str, Any]) -> None:
    body = {"settings": {"output_name": "fuzz", "train_data_dir": str(site.pictures), **asked}}
    check(site, site.post("/jobs", content=json.dumps(body), headers={"content-type": "application/json"}))


@FUZZ
@given(body=VALUES | st.dictionaries(st.sampled_from(["settings", "datasets", "general"]), VALUES))
def test_json_of_any_shape(site: Site, body: Any) -> None:
    answer = site.post("/jobs", content=json.dumps(body), headers={"content-type": "application/json"})
    check(site, answer)
    check_refused(site, answer)


@FUZZ
@given(body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@pytest.mark.parametrize("kind", ["application/json", "application/toml"])
def test_any_bytes(site: Site, kind: str, body: bytes) -> None:
    answer = site.post("/jobs", content=body, headers={"content-type": kind})
    check(site, answer)
    check_refused(site, answer)


@FUZZ
@given(job=st.text(max_size=30), file=st.text(max_size=30), since=st.integers() | st.text(max_size=8))
def test_any_address(site: Site, job: str, file: str, since: Any) -> None:
    from urllib.parse import quote

    for path in (f"/jobs/{quote(job, safe='')}/events", f"/jobs/{quote(job, safe='')}/samples/{quote(file, safe='')}"):
        answer = site.get(path, params={"since": since, "losses": file})
        assert answer.status_code in (200, 404, 405, 422)
        assert answer.status_code != 200 or answer.text == "the page", "no run and no picture has such a name"


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"settings":' * 5_000,
        '{"settings": {"seed": ' + "9" * 500_000 + "}}",
        '{"settings": {"learning_rate": NaN}}',
        '{"settings": {"learning_rate": 1e999, "output_name": "a"}}',
        '{"settings": 3}',
        '{"settings": {"output_name": "\\ud800"}}',
        "",
    ],
)
def test_bodies_meant_to_hurt(site: Site, body: str) -> None:
    check(site, site.post("/jobs", content=body, headers={"content-type": "application/json"}))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('"a": ' + "[" * 100_000, ["not valid JSON"]),
        ('"a": ' + '{"settings":' * 5_000, ["not valid JSON"]),
        ('"seed": ' + "9" * 500_000, ["a number of 500000 digits"]),
        ('"learning_rate": NaN', ["not valid JSON", "NaN"]),
        ('"learning_rate": -Infinity', ["not valid JSON", "-Infinity"]),
        ('"learning_rate": 1e999', ["learning_rate", "is inf", "number"]),
        ('"seed": -1e999', ["seed", "is -inf", "whole number"]),
        ('"seed": 1e308', ["seed", "at most 9.22337e+18"]),
        ('"network_dim": true', ["network_dim", "is True", "whole number"]),
        ('"network_dim": {"a": 1}', ["network_dim", "is {'a': 1}", "whole number"]),
        ('"trigger": true', ["trigger", "is True", "text"]),
        ('"output_name": "\\ud800"', ["output_name", r"is '\ud800'"]),
        ('"output_name": "a\\u0000"', ["output_name", r"is 'a\x00'"]),
        ('"output_name": "../../a"', ["output_name", "is '../../a'", "folder"]),
        ('"output_name": "aux"', ["output_name", "is 'aux'", "Windows"]),
        ('"train_data_dir": "a\\u0000b"', ["train_data_dir", r"is 'a\x00b'"]),
    ],
    ids=lambda given: given[:24] if isinstance(given, str) else None,
)  # fmt: skip
def test_what_hurts_is_refused_for_what_it_is(site: Site, setting: str, words: list[str]) -> None:
    """All else that a run needs is there, so that nothing else can be the reason."""
    usual = {"train_data_dir": str(site.pictures), "output_name": "hurts"}
    others = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in usual.items() if f'"{key}"' not in setting]
    runs = len(site.jobs.jobs())
    body = f'{{"settings": {{{", ".join([*others, setting])}}}}}'
    answer = site.post("/jobs", content=body, headers={"content-type": "application/json"})
    check_refused(site, answer)
    assert [word for word in words if word not in answer.json()["error"]] == []
    assert len(site.jobs.jobs()) == runs
    assert site.post("/jobs", json={"settings": {**usual, "output_name": f"works {next(COUNTER)}"}}).status_code == 200


def test_every_text_setting_is_known_to_be_a_path_a_class_or_just_text() -> None:
    """A new setting that holds text must be sorted: paths, classes and addresses are closed to strangers."""
    texts = {
        "output_name", "trigger", "subject", "resolution", "resize_interpolation", "face_crop_aug_range",
        "caption_extension", "caption_separator", "caption_prefix", "caption_suffix", "keep_tokens_separator",
        "secondary_separator", "network_args", "optimizer_args", "lr_scheduler", "lr_scheduler_args", "loss_type",
        "huber_schedule", "mixed_precision", "save_model_as", "save_precision", "sample_prompts", "sample_sampler",
        "training_comment", "block_lr", "class_prompt", "ema_save", "freeze_blocks", "sample_with", "when_diverged",
        "timestep_sampling", "weighting_scheme", "model_prediction_type",
    }  # fmt: skip
    sorted_out = texts | set(PATH_SETTINGS) | set(CODE_SETTINGS) | set(PRIVATE_SETTINGS)
    unsorted = {
        option.key
        for option in options()
        if option.kind in ("str", "strs") and option.key not in sorted_out and not option.key.startswith("metadata_")
    }
    assert not unsorted
