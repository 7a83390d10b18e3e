"""What the families with Stable Diffusion's UNet share: the call, the names, one text encoder."""
