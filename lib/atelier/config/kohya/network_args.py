"""The names that network_args may have, by kind of adapter, so that a misspelt name does not go unnoticed."""

from __future__ import annotations

from collections.abc import Sequence

from atelier.config.settings.schema import labelled
from atelier.config.settings.values import nearest

NETWORK_ARGS = labelled("network_args")
"""The setting's name at the beginning of errors: its label in the tab, with the key."""

_EVERYWHERE = frozenset({
    "conv_dim", "conv_alpha", "dropout", "rank_dropout", "module_dropout",
    "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold",
    "loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio",
})  # fmt: skip
_PLAIN = frozenset({"block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"})
_LYCORIS = frozenset({
    "algo", "preset", "dora_wd", "wd_on_output", "use_tucker", "use_cp", "use_conv_cp", "use_scalar",
    "decompose_both", "factor", "rank_dropout_scale", "constraint", "constrain", "rescaled", "full_matrix",
    "bypass_mode", "rs_lora", "unbalanced_factorization", "train_on_input", "train_norm",
})  # fmt: skip


def ignored_arguments(module: str, pairs: Sequence[str]) -> list[str]:
    """A sentence for each entry of network_args that the adapter of this network_module does not read."""
    mine, other = (_LYCORIS, _PLAIN) if module.startswith("lycoris") else (_PLAIN, _LYCORIS)
    known = mine | _EVERYWHERE
    sentences = []
    for pair in pairs:
        key = pair.partition("=")[0].strip()
        if key in known or not key:
            continue
        why = "is not known"
        if key in other:
            why = f"is for {'networks.lora' if key in _PLAIN else 'lycoris.kohya'}, not for {module}"
        guess = nearest(key, sorted(known)) if key not in other else None
        sentences.append(f"{NETWORK_ARGS}: {key} {why} and is ignored{f'; did you mean {guess}?' if guess else '.'}")
    return sentences
