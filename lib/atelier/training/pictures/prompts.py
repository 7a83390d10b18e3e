"""The prompts of a run's sample pictures."""

from __future__ import annotations

from pathlib import Path

from atelier.config.files.legacy_text import Guess
from atelier.config.job import JobConfig
from atelier.config.sample_prompts import SamplePrompt, parse_lines, prompts_file, read_sample_prompts, with_defaults
from atelier.config.settings.schema import parse_resolution
from atelier.data.found.captions import said_of
from atelier.training.context import draws_with_host
from atelier.training.interfaces import RunRecord
from atelier.training.randomness import derived_seed


def sample_prompts(job: JobConfig, record: RunRecord) -> list[SamplePrompt]:
    """The prompts of the sample pictures: those of the settings, or one with the trigger word.

    The record is told when a file of prompts is not in UTF-8. Raises `AtelierError` for a file that cannot be read.
    """
    settings = job.settings
    given = (settings.sample_prompts or "").strip()
    path = prompts_file(given)
    if not given:
        text = f"a photo of {job.trigger}" if settings.subject != "style" else f"a picture, {job.trigger}"
        prompts = [SamplePrompt(text.strip(" ,"))] if job.trigger else []
    elif path is not None:
        heard: list[tuple[Path, Guess]] = []
        prompts = read_sample_prompts(path, lambda guess: heard.append((path, guess)))
        for sentence in said_of(heard):
            record.message(sentence, "warning")
    else:
        prompts = parse_lines(given)
    seeds = [derived_seed(0, "sample", index) % 2**32 for index in range(len(prompts))]
    if draws_with_host(settings):
        return [with_defaults(prompt, seed=seed) for prompt, seed in zip(prompts, seeds)]
    width, height = (side - side % 8 for side in parse_resolution(settings.resolution))
    defaults = {"width": width, "height": height, "sample_steps": 20, "sample_sampler": settings.sample_sampler}
    return [with_defaults(prompt, **defaults, seed=seed, scale=7.0) for prompt, seed in zip(prompts, seeds)]
