"""The latents of a batch, from the cache, or from the VAE and then put into the cache."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from atelier.config.errors import AtelierError
from atelier.data.batch import ONCE, Batch
from atelier.data.tensor_cache import TensorCache
from atelier.models.family import Family, Parts
from atelier.models.out_of_memory import is_out_of_memory
from atelier.models.transfer import to_device
from atelier.training.randomness import derived_seed


class LatentEncoder:
    """Returns normalised latents [B, C, h, w] on the training device for a batch of pixels or cached latents."""

    def __init__(
        self,
        parts: Parts,
        cache: TensorCache | None,
        batch_size: int,
        on_encoding: Callable[[int], None] = lambda seen: None,
    ) -> None:
        """`on_encoding` is called before pictures are encoded, with the number of different ones seen so far."""
        self._on_encoding = on_encoding
        self._seen: set[str] = set()
        self._parts = parts
        self._cache = cache
        self._batch_size = max(1, batch_size)
        self._full_encoder: nn.Module | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """The latents of a batch. Raises `AtelierError` when the VAE's result is NaN in every precision."""
        latents = batch.latents
        lasting = [key for key in batch.keys if not key.startswith(ONCE)]
        self._seen.update(lasting)
        if latents is None:
            if lasting:
                self._on_encoding(len(self._seen))
            if batch.pixels is None:
                raise AtelierError("A batch has neither pixels nor latents.")
            self._encode_together(batch)
            latents = self._fresh(batch.pixels, batch.keys)
        return self._parts.family.normalised(to_device(latents, self._parts.device, torch.float32))

    def _encode_together(self, batch: Batch) -> None:
        """Caches whole groups of pictures, unless they were cached after the batch was loaded."""
        cache = self._cache
        if cache is None:
            return
        for group in batch.together:
            if any(key in batch.keys and cache.get(key) is None for key in group.keys):
                for key, latents in zip(group.keys, self.encode(group.pixels, group.keys).cpu()):
                    cache.put(key, latents)

    def _fresh(self, pixels: Tensor, keys: list[str]) -> Tensor:
        """The latents of a batch, without encoding pictures again that were cached after the batch was loaded."""
        if self._cache is None:
            return self.encode(pixels, keys)
        found = [self._cache.get(key) for key in keys]
        wanted = [row for row, latents in enumerate(found) if latents is None]
        if wanted:
            made = self.encode(pixels[wanted], [keys[row] for row in wanted]).cpu()
            for row, latents in zip(wanted, made):
                found[row] = latents.clone()
                self._cache.put(keys[row], latents)
        return torch.stack([latents for latents in found if latents is not None])

    @torch.no_grad()
    def encode(self, pixels: Tensor, keys: list[str]) -> Tensor:
        """Samples of the VAE's posterior, not normalised, [B, C, h, w] for pixels [B, 3, H, W] in -1..1.

        The noise of each sample depends only on the picture's key, so cached and new encodings are equal in every run.
        """
        vae = self._parts.vae
        if vae is None:
            raise AtelierError("This run needs the VAE, but the model was borrowed without it.")
        rows = []
        for start in range(0, pixels.shape[0], self._batch_size):
            mean, deviation = self._posterior(vae, pixels[start : start + self._batch_size])
            for row, key in enumerate(keys[start : start + self._batch_size]):
                random = torch.Generator("cpu").manual_seed(derived_seed(0, "latent", key))
                noise = torch.randn(mean.shape[1:], generator=random).to(mean)
                rows.append(mean[row] + deviation[row] * noise)
        return torch.stack(rows)

    def _posterior(self, vae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """When half precision overflows, encodes again in float32 with a copy of the VAE's encoder.

        The copy is made when it is first needed, and is in CPU memory between its uses to save the device's.
        """
        parameter = next(vae.parameters())
        half = parameter.dtype == torch.float16
        if self._full_encoder is None and not (half and self._parts.device.type == "cpu"):
            found = self._fitting(vae, pixels)
            if found is not None:
                return found
        found = None
        if half:
            if self._full_encoder is None:
                self._full_encoder = _encoder_in_float32(vae)
            full = self._full_encoder.to(parameter.device)
            try:
                found = self._fitting(full, pixels)
            finally:
                full.to("cpu")
        if found is None:
            raise AtelierError("The VAE returns NaN for a picture, even in full precision. Choose another VAE.")
        return found

    def _fitting(self, vae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor] | None:
        """`posterior`. When memory runs out, each picture by itself and with channels last, which needs the least.

        The run's memory savings would not help: most are about the denoiser's step.
        """
        family = self._parts.family
        try:
            return posterior(family, vae, pixels)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the except block: its traceback keeps the tensors of the failed try in memory.
        rows = [posterior(family, vae, row.contiguous(memory_format=torch.channels_last)) for row in pixels.split(1)]
        found = [row for row in rows if row is not None]
        if len(found) < len(rows):
            return None
        return torch.cat([mean for mean, _ in found]), torch.cat([deviation for _, deviation in found])


def _encoder_in_float32(vae: nn.Module) -> nn.Module:
    """A copy in float32 without the decoder, which is three fifths of a VAE and not needed."""
    half = copy.copy(vae)
    half._modules = {name: module for name, module in vae._modules.items() if not name.startswith(("decoder", "post"))}
    return copy.deepcopy(half).float()


def posterior(family: Family, vae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation from the family; None when half precision has overflowed."""
    mean, deviation = family.posterior(vae, pixels)
    return (mean, deviation) if bool(torch.isfinite(mean).all()) else None
