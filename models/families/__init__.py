"""Every model family, one idea a file. Importing this package registers them all."""

from . import baselines, binary_autoencoder, denoising_autoencoder, vae

__all__ = ["baselines", "binary_autoencoder", "denoising_autoencoder", "vae"]
