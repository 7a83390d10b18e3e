"""How pictures and captions are read; defaults for datasets that do not say otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting

INTERPOLATIONS = ("lanczos", "nearest", "bilinear", "linear", "bicubic", "cubic", "area")


@dataclass
class PictureSettings:
    """Sizes, buckets, augmentation."""

    resolution: str = setting(
        "512", "str", "Pictures", "Resolution", "Side in pixels, or WIDTH,HEIGHT. SD1 was made for 512, XL for 1024."
    )
    train_batch_size: int = setting(
        1, "int", "Pictures", "Batch size", "Pictures learnt from at once; more is steadier and needs more memory.",
        minimum=1, maximum=1024,
    )  # fmt: skip
    dataset_repeats: int = setting(
        1, "int", "Pictures", "Repeats", "How often each picture comes in an epoch.", minimum=1, maximum=100000
    )
    enable_bucket: bool = setting(
        True, "bool", "Pictures", "Keep shapes", "Groups pictures by shape instead of cropping all to one."
    )
    min_bucket_reso: int = setting(
        256, "int", "Pictures", "Shortest side", "The shortest side of a bucket, in pixels.", minimum=8, maximum=8192
    )
    max_bucket_reso: int = setting(
        1024, "int", "Pictures", "Longest side", "The longest side of a bucket, in pixels.", minimum=8, maximum=8192
    )
    bucket_reso_steps: int = setting(
        64, "int", "Pictures", "Bucket step", "Sides of buckets are multiples of this.", minimum=8, maximum=1024
    )
    bucket_no_upscale: bool = setting(
        False, "bool", "Pictures", "Never enlarge", "Small pictures get a smaller bucket instead of being blown up."
    )
    resize_interpolation: str | None = setting(
        None, "str", "Pictures", "Resampling", "Empty picks area-like for shrinking and bicubic for enlarging.",
        choices=INTERPOLATIONS,
    )  # fmt: skip
    flip_aug: bool = setting(
        False, "bool", "Pictures", "Mirror", "Also learns mirrored pictures; not for faces or text."
    )
    color_aug: bool = setting(
        False, "bool", "Pictures", "Vary colours", "Changes hue a little each time; latents can then not be cached."
    )
    random_crop: bool = setting(
        False, "bool", "Pictures", "Random crop", "Crops at a random place instead of the middle."
    )
    face_crop_aug_range: str | None = setting(
        None, "str", "Pictures", "Face crop", "kohya's key, kept for files; not used.", shown=False
    )
    alpha_mask: bool = setting(
        False, "bool", "Pictures", "Transparency as mask", "Learns nothing from transparent parts."
    )
    masked_loss: bool = setting(
        False, "bool", "Pictures", "Mask pictures", "Learns only from the white of mask pictures."
    )
    conditioning_data_dir: str | None = setting(
        None, "str", "Pictures", "Folder of masks", "Mask pictures with the names of the pictures."
    )


@dataclass
class CaptionSettings:
    """What each picture is called."""

    caption_extension: str = setting(
        ".txt", "str", "Captions", "Caption files", "The ending of caption files; .txt and .caption are both tried."
    )
    caption_separator: str = setting(",", "str", "Captions", "Tag separator", "What stands between tags.")
    caption_prefix: str | None = setting(None, "str", "Captions", "Prefix", "Put in front of every caption.")
    caption_suffix: str | None = setting(None, "str", "Captions", "Suffix", "Put behind every caption.")
    shuffle_caption: bool = setting(
        False, "bool", "Captions", "Shuffle tags", "A new order of tags each time, so that order means nothing."
    )
    keep_tokens: int = setting(
        0,
        "int",
        "Captions",
        "Keep first tags",
        "This many tags at the front stay where they are.",
        minimum=0,
        maximum=255,
    )
    keep_tokens_separator: str = setting(
        "", "str", "Captions", "Keep separator", "Tags before this mark stay where they are."
    )
    secondary_separator: str | None = setting(
        None, "str", "Captions", "Secondary separator", "Tags joined by it are shuffled and dropped together."
    )
    enable_wildcard: bool = setting(
        False, "bool", "Captions", "Wildcards", "Picks one of {a|b|c}, and one line of captions with several."
    )
    caption_dropout_rate: float = setting(
        0.0, "float", "Captions", "Caption dropout", "How often a caption is left out, 0 to 1.", minimum=0, maximum=1
    )
    caption_dropout_every_n_epochs: int = setting(
        0, "int", "Captions", "Dropout epochs", "Every so many epochs no captions are used; 0 is never.", minimum=0
    )
    caption_tag_dropout_rate: float = setting(
        0.0, "float", "Captions", "Tag dropout", "How often each tag is left out, 0 to 1.", minimum=0, maximum=1
    )
    token_warmup_min: int = setting(
        1, "int", "Captions", "Tags at the start", "Tags that are used at the first step.", minimum=0
    )
    token_warmup_step: float = setting(
        0.0, "float", "Captions", "Tag warm-up", "Steps, or a fraction of them, until all tags are used.", minimum=0
    )
    weighted_captions: bool = setting(
        False, "bool", "Captions", "Weighted captions", "(word:1.2) in captions means emphasis, as in prompts."
    )
