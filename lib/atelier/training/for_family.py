"""What a model's family makes of a run: what can be trained of it, and which sizes its pictures may have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig
from atelier.config.settings.schema import labelled
from atelier.data.scan import Picture
from atelier.models.family import Family


def fitted(job: JobConfig, family: Family) -> JobConfig:
    """The job with the text encoder left alone where the family never trains it.

    Raises `AtelierError` for the whole of a model that can only be trained by an adapter.
    """
    if family.adaptable.text:
        return job
    if job.settings.train_whole_model:
        raise AtelierError(f"{family.title} can only be trained by a LoRA or its kin: switch Dreambooth off.")
    if job.settings.network_train_text_encoder_only:
        raise AtelierError(
            f"The text encoder of {family.title} is not trained: switch "
            f"{labelled('network_train_text_encoder_only')} off."
        )
    return replace(job, settings=job.settings.replace(network_train_unet_only=True))


def check_sides(pictures: Iterable[Picture], family: Family) -> None:
    """Raises `AtelierError` for a picture whose size in training the family cannot take."""
    step = family.side_step
    for picture in pictures:
        width, height = picture.bucket
        if width % step or height % step:
            raise AtelierError(
                f"{picture.path.name} would be trained at {width}x{height}, but {family.title} needs sides that are "
                f"multiples of {step}: change {labelled('resolution')} or {labelled('bucket_reso_steps')}."
            )


_DISTILLED = re.compile(r"turbo|distill|lightning|schnell", re.IGNORECASE)
"""In the names of models that were made to draw in few steps. Their tensors do not show it."""


def distilled_sentence(family: Family, title: str) -> str | None:
    """What happens to a flow that was distilled, when its name says so."""
    found = _DISTILLED.search(title)
    if family.flow is None or found is None:
        return None
    return (
        f"{title} is called {found[0].lower()}: a model made to draw in few steps loses that when it is trained on. "
        f"Train on the model that it was made from and draw with this one, or name a training adapter under "
        f"{labelled('base_weights')}."
    )
