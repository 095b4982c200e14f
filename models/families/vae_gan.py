"""VAE-GAN: Larsen et al., "Autoencoding beyond Pixels Using a Learned Similarity Metric" (ICML 2016).

The decoder of a variational autoencoder is the generator of a GAN, and reconstructions are compared in a layer f of
its discriminator instead of in pixels. With x^ = Dec(z), z ~ q(z|x), and x_p = Dec(z_p), z_p ~ N(0, I), each network
has a loss of its own:

    feature        = scale * mean |f(x) - f(x^)|^2 / var f(x), f(x) a constant
    encoder        : kl * KL(q(z|x) || N(0, I)) + feature
    decoder        : gamma * feature - E log D(x^) - E log D(x_p)
    discriminator  : -E log D(x) - (E log(1 - D(x^)) + E log(1 - D(x_p))) / 2

Nothing of the game reaches the encoder, and nothing of the feature loss the discriminator, which would otherwise make
f blind. The feature loss is a mean over f's numbers, as a share of their variance over the batch, so that its scale
follows neither the width of the layer nor the size of its weights. The decoder's game is the non-saturating one. R1
(Mescheder et al., ICML 2018) stands in for batch normalisation in the discriminator and for the reference code's
gating of updates. Items are decoded by a moving average of the decoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import Parameter

from ..base import Batch, FamilyParams, Terms
from ..inputs import InputSpec
from ..latent import LatentAutoencoder
from ..parts.adversarial import Discriminator, Trunk, discriminator_step, generator_loss, grower_for
from ..parts.averaging import Average, decay_for
from ..parts.layers import expectation
from ..parts.variational import gaussian_kl, reparameterised

_FEATURE_SCALE = 50.0
"""Makes a mean over features as large as a sum over pixels."""
_HALF_LIFE = 50
"""Steps over which the decoder's weights are averaged."""


class VaeGanParams(FamilyParams):
    latent: int = Field(16, ge=1, le=1024, description="dimensions of z")
    hidden: int = Field(128, ge=8, le=8192, description="width of dense layers")
    channels: int = Field(24, ge=4, le=512, description="channels at half size; up to four times that further in")
    kl: float = Field(0.3, ge=0, le=100, description="weight of the KL term in the encoder's loss")
    gamma: float = Field(0.1, ge=0, le=100, description="weight of the feature loss in the decoder's loss")
    r1: float = Field(0.1, ge=0, le=1000, description="weight of the R1 penalty on the discriminator")


class VaeGan(LatentAutoencoder):
    """Gaussian latents with a learned measure of likeness; sharper samples at a larger pixel error."""

    family = "vae-gan"
    roles: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "discriminator")
    chosen_by = "last"
    betas = (0.5, 0.99)
    steps = 2500
    spherical = True

    Params = VaeGanParams

    params: VaeGanParams

    def __init__(self, input: InputSpec, bits: int, params: VaeGanParams) -> None:
        super().__init__(input, bits, params, params.latent)
        trunk = Trunk(input, params.channels, params.hidden)
        self.encoder = nn.Sequential(trunk, nn.Linear(trunk.flat, 2 * params.latent))
        self.decoder = grower_for(input, params.latent, params.channels, params.hidden)
        self.discriminator = Discriminator(input, params.channels, params.hidden)
        self.average = Average(self.decoder)

    def parameters_of(self, role: str) -> Iterable[Parameter]:
        network: nn.Module = getattr(self, role)
        return network.parameters()

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `(B, latent)` of q(z|x)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 8)

    def decoded(self, z: Tensor) -> Tensor:
        """Items `(B, *input.shape)` by the decoder in training."""
        return expectation(self.input.likelihood, self.decoder(z))

    def feature_loss(self, x: Tensor, features: Tensor) -> Tensor:
        """How far `features` `(B, flat)` of decoded items are from those of `x`, the target."""
        with torch.no_grad():
            target = self.discriminator.trunk(x)
            spread = target.var(0, correction=0).mean().clamp_min(1e-9)
        return _FEATURE_SCALE * (features - target).square().mean() / spread

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        return getattr(self, f"_{role}_loss")(batch.x)

    def _encoder_loss(self, x: Tensor) -> tuple[Tensor, Terms]:
        mean, log_variance = self.posterior(x)
        z = reparameterised(mean, log_variance, torch.randn_like(mean))  # (B, latent)
        kl = gaussian_kl(mean, log_variance).sum(1).mean()
        feature = self.feature_loss(x, self.discriminator.trunk(self.decoded(z)))
        return self.params.kl * kl + feature, {"feature": feature, "kl": kl}

    def _latents(self, x: Tensor) -> Tensor:
        """Latents `(2 B, latent)`: of `x`, then from the prior; the encoder is out of reach of their gradient."""
        with torch.no_grad():
            mean, log_variance = self.posterior(x)
        z = reparameterised(mean, log_variance, torch.randn_like(mean))
        return torch.cat([z, torch.randn_like(mean)])

    def _decoder_loss(self, x: Tensor) -> tuple[Tensor, Terms]:
        features = self.discriminator.trunk(self.decoded(self._latents(x)))  # (2 B, flat)
        feature = self.feature_loss(x, features[: len(x)])
        game = 2 * generator_loss(self.discriminator.judge(features))
        return self.params.gamma * feature + game, {"decoder": game}

    def _discriminator_loss(self, x: Tensor) -> tuple[Tensor, Terms]:
        with torch.no_grad():
            fake = self.decoded(self._latents(x))
        return discriminator_step(self.discriminator, x, fake, self.params.r1)

    def after_step(self) -> None:
        self.average.update(self.decoder, decay_for(_HALF_LIFE))

    def latent(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def expected(self, z: Tensor) -> Tensor:
        return expectation(self.input.likelihood, self.average(z))

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        return self.expected(temperature * torch.randn(n, self.params.latent, generator=generator))

    def vary(self, x: Tensor, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        mean = self.latent(x)
        # Half the prior's spread, as in `vae`: far enough to differ, near enough to resemble.
        return self.expected(mean + 0.5 * temperature * torch.randn(n, self.params.latent, generator=generator))
