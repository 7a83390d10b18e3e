"""Image folders, captions, buckets, masks, cached latents and text states."""
