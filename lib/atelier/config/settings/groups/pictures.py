"""Settings of pictures and captions: the defaults for datasets that do not set their own."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.config.settings.option import setting

INTERPOLATIONS = ("lanczos", "nearest", "bilinear", "linear", "bicubic", "cubic", "area")


@dataclass
class PictureSettings:
    """Sizes, buckets, augmentation."""

    resolution: str = setting(
        "512", "str", "Pictures", "Resolution", "Side in pixels, or WIDTH,HEIGHT. SD 1 was made for 512, SDXL for 1024."
    )
    train_batch_size: int = setting(
        1, "int", "Pictures", "Batch size",
        "Pictures per step. More makes training steadier and needs more memory.",
        minimum=1, maximum=1024,
    )  # fmt: skip
    dataset_repeats: int = setting(
        1, "int", "Pictures", "Repeats",
        "How often each picture is used per epoch. The number in a folder's name wins.",
        minimum=1, maximum=100000,
    )  # fmt: skip
    enable_bucket: bool = setting(
        True, "bool", "Pictures", "Keep shapes",
        "Groups pictures by shape (buckets) instead of cropping all of them to one shape.",
    )  # fmt: skip
    min_bucket_reso: int = setting(
        256, "int", "Pictures", "Shortest side", "The shortest side of a bucket, in pixels.", minimum=8, maximum=8192
    )
    max_bucket_reso: int = setting(
        1024, "int", "Pictures", "Longest side", "The longest side of a bucket, in pixels.", minimum=8, maximum=8192
    )
    bucket_reso_steps: int = setting(
        64, "int", "Pictures", "Bucket step",
        "Sides of buckets are multiples of this many pixels.",
        minimum=8, maximum=1024,
    )  # fmt: skip
    bucket_no_upscale: bool = setting(
        False, "bool", "Pictures", "Never enlarge", "Small pictures get a smaller bucket instead of being enlarged."
    )
    resize_interpolation: str | None = setting(
        None, "str", "Pictures", "Resampling",
        "How pictures are resized. Empty picks an area filter for shrinking and bicubic for enlarging.",
        choices=INTERPOLATIONS,
    )  # fmt: skip
    flip_aug: bool = setting(
        False, "bool", "Pictures", "Mirror", "Also trains on mirrored pictures. Not for faces or text."
    )
    color_aug: bool = setting(
        False, "bool", "Pictures", "Vary colours", "Changes the hue a little each time. Latents can then not be cached."
    )
    random_crop: bool = setting(
        False, "bool", "Pictures", "Random crop",
        "Crops at a random place instead of the middle. Latents can then not be cached.",
    )  # fmt: skip
    face_crop_aug_range: str | None = setting(
        None, "str", "Pictures", "Face crop", "kohya's key, kept for files. Not used.", shown=False
    )
    alpha_mask: bool = setting(
        False, "bool", "Pictures", "Transparency as mask", "Transparent parts of a picture are not learned."
    )
    masked_loss: bool = setting(
        False, "bool", "Pictures", "Mask pictures", "Learns only from the parts that are white in mask pictures."
    )
    conditioning_data_dir: str | None = setting(
        None, "str", "Pictures", "Folder of masks", "Mask pictures, each with the file name of its picture."
    )


@dataclass
class CaptionSettings:
    """Where captions come from, and how they are varied from step to step."""

    caption_extension: str = setting(
        ".txt", "str", "Captions", "Caption files",
        "Ending of the caption files. .txt and .caption are always tried too.",
    )  # fmt: skip
    caption_separator: str = setting(",", "str", "Captions", "Tag separator", "The character between two tags.")
    caption_prefix: str | None = setting(None, "str", "Captions", "Prefix", "Put in front of every caption.")
    caption_suffix: str | None = setting(None, "str", "Captions", "Suffix", "Put at the end of every caption.")
    shuffle_caption: bool = setting(
        False, "bool", "Captions", "Shuffle tags",
        "Puts the tags in a new order each time, so that their order does not matter.",
    )  # fmt: skip
    keep_tokens: int = setting(
        0, "int", "Captions", "Keep first tags",
        "This many tags at the front keep their place and are never dropped.",
        minimum=0, maximum=255,
    )  # fmt: skip
    keep_tokens_separator: str = setting(
        "", "str", "Captions", "Keep separator", "Tags before this mark keep their place and are never dropped."
    )
    secondary_separator: str | None = setting(
        None, "str", "Captions", "Secondary separator", "Tags joined by this mark are shuffled and dropped together."
    )
    enable_wildcard: bool = setting(
        False, "bool", "Captions", "Wildcards",
        "Picks one of {a|b|c}, and one line of a caption file with several lines.",
    )  # fmt: skip
    caption_dropout_rate: float = setting(
        0.0, "float", "Captions", "Caption dropout",
        "Probability, 0 to 1, that a picture is trained without its caption.",
        minimum=0, maximum=1,
    )  # fmt: skip
    caption_dropout_every_n_epochs: int = setting(
        0, "int", "Captions", "Dropout epochs", "Every N-th epoch is trained without captions. 0 is never.", minimum=0
    )
    caption_tag_dropout_rate: float = setting(
        0.0, "float", "Captions", "Tag dropout", "Probability, 0 to 1, that a tag is left out.", minimum=0, maximum=1
    )
    token_warmup_min: int = setting(
        1, "int", "Captions", "Tags at the start", "How many tags are used at the first step.", minimum=0
    )
    token_warmup_step: float = setting(
        0.0, "float", "Captions", "Tag warm-up",
        "Steps until all tags are used. A value below 1 is a fraction of the run.",
        minimum=0,
    )  # fmt: skip
    weighted_captions: bool = setting(
        False, "bool", "Captions", "Weighted captions",
        "(word:1.2) in a caption gives the word more weight, as in prompts.",
    )  # fmt: skip
