"""Any body gets a clear answer: never a traceback, never a file outside the folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from atelier.config.settings.named import CODE_SETTINGS, PATH_SETTINGS  # noqa: E402
from atelier.config.settings.schema import options  # noqa: E402
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


@FUZZ
@given(asked=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=12), VALUES, max_size=5))
def test_json_settings(site: Site, asked: dict[str, Any]) -> None:
    body = {"settings": {"output_name": "fuzz", "train_data_dir": str(site.pictures), **asked}}
    check(site, site.post("/jobs", content=json.dumps(body), headers={"content-type": "application/json"}))


@FUZZ
@given(body=VALUES | st.dictionaries(st.sampled_from(["settings", "datasets", "general"]), VALUES))
def test_json_of_any_shape(site: Site, body: Any) -> None:
    check(site, site.post("/jobs", content=json.dumps(body), headers={"content-type": "application/json"}))


@FUZZ
@given(body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@pytest.mark.parametrize("kind", ["application/json", "application/toml"])
def test_any_bytes(site: Site, kind: str, body: bytes) -> None:
    check(site, site.post("/jobs", content=body, headers={"content-type": kind}))


@FUZZ
@given(job=st.text(max_size=30), file=st.text(max_size=30), since=st.integers() | st.text(max_size=8))
def test_any_address(site: Site, job: str, file: str, since: Any) -> None:
    from urllib.parse import quote

    for path in (f"/jobs/{quote(job, safe='')}/events", f"/jobs/{quote(job, safe='')}/samples/{quote(file, safe='')}"):
        answer = site.get(path, params={"since": since, "losses": file})
        assert answer.status_code in (200, 404, 405, 422)


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


def test_every_text_setting_is_known_to_be_a_path_a_class_or_just_text() -> None:
    """A new setting that holds text must be sorted: paths and classes are closed to strangers."""
    texts = {
        "output_name", "trigger", "subject", "resolution", "resize_interpolation", "face_crop_aug_range",
        "caption_extension", "caption_separator", "caption_prefix", "caption_suffix", "keep_tokens_separator",
        "secondary_separator", "network_args", "optimizer_args", "lr_scheduler", "lr_scheduler_args", "loss_type",
        "huber_schedule", "mixed_precision", "save_model_as", "save_precision", "sample_prompts", "sample_sampler",
        "training_comment", "block_lr", "class_prompt", "ema_save", "freeze_blocks", "sample_with", "when_diverged",
    }  # fmt: skip
    sorted_out = texts | set(PATH_SETTINGS) | set(CODE_SETTINGS)
    unsorted = {
        option.key
        for option in options()
        if option.kind in ("str", "strs") and option.key not in sorted_out and not option.key.startswith("metadata_")
    }
    assert not unsorted
