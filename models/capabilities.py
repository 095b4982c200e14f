"""What a family can do beyond encoding: a protocol each, declared by having its method.

`isinstance` sees only that the method is there; that it does what it says is tested for every family that has it.
`x` is `(B, *input.shape)` in the input's own terms throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Generator, Tensor

from .preprocessing import InputSpec


@runtime_checkable
class Decodes(Protocol):
    """Turns codes back into items."""

    def decode(self, bits: Tensor) -> Tensor:
        """The expected `x` `(B, *input.shape)` of bits `(B, bits)` of 0 and 1."""


@runtime_checkable
class Reconstructs(Protocol):
    """Passes items through its latent and back."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """What the latents of `x` decode to, `(B, *input.shape)`."""


@runtime_checkable
class Interpolates(Protocol):
    """Walks from one item to another through its latent space."""

    def interpolate(self, a: Tensor, b: Tensor, steps: int) -> Tensor:
        """`steps` >= 2 items `(steps, *input.shape)` from the reconstruction of `a` to that of `b`.

        `a` and `b` are one item each, `(1, *input.shape)`.
        """


@runtime_checkable
class Samples(Protocol):
    """Makes new items from nothing."""

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """`n` new `x` `(n, *input.shape)`, a function of the generator's state; all alike at temperature 0."""


@runtime_checkable
class Varies(Protocol):
    """Makes new items that resemble a given one."""

    def vary(self, x: Tensor, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """`n` variations `(n, *input.shape)` of one `x` `(1, *input.shape)`."""


@runtime_checkable
class Denoises(Protocol):
    """Removes noise."""

    def denoise(self, x: Tensor) -> Tensor:
        """The clean items `(B, *input.shape)` behind noisy `x`."""


@runtime_checkable
class Inpaints(Protocol):
    """Fills in what is missing."""

    def inpaint(self, x: Tensor, mask: Tensor, *, steps: int, generator: Generator) -> Tensor:
        """`x` with the part where `mask` is 1 filled in; the rest unchanged. Both `(B, *input.shape)`."""


@runtime_checkable
class Scores(Protocol):
    """Tells ordinary items from strange ones."""

    scored_by: str
    """What the score is, for people: "log-likelihood bound in nats", "minus the norm of the score"."""

    def score(self, x: Tensor) -> Tensor:
        """A number for each item `(B,)`, higher for more ordinary ones; the same alone as within any batch."""


@runtime_checkable
class Weighs(Protocol):
    """Says how much likelier one item is than another."""

    def log_ratio(self, a: Tensor, b: Tensor) -> Tensor:
        """Estimates of log p(b) - log p(a), `(B,)`, for pairs of items."""


CAPABILITIES: Mapping[str, type] = {
    "decode": Decodes,
    "reconstruct": Reconstructs,
    "interpolate": Interpolates,
    "sample": Samples,
    "vary": Varies,
    "denoise": Denoises,
    "inpaint": Inpaints,
    "score": Scores,
    "weigh": Weighs,
}


_MAKE_NO_ITEMS = frozenset({"encode", "score", "weigh"})


def capabilities(family: type, input: type[InputSpec] | None = None) -> frozenset[str]:
    """What models of `family` can do, by name; every one can "encode".

    input: the class of their input; where it gives no items back, they can only do what makes none.
    """
    able = {"encode"} | {name for name, protocol in CAPABILITIES.items() if hasattr(family, _method(protocol))}
    return frozenset(able if input is None or input.restores else able & _MAKE_NO_ITEMS)


def _method(protocol: type) -> str:
    return next(name for name, value in vars(protocol).items() if not name.startswith("_") and callable(value))
