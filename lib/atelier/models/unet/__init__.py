"""Code shared by the families with Stable Diffusion's UNet: calling it, names of layers, the VAE, the text encoder."""
