"""Training data: folders of pictures, captions, buckets, masks and cached latents, assembled into batches."""
