"""Parts that several families share: dense stacks, stochastic bits, and how a reconstruction is judged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def dense(widths: Sequence[int], *, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of the given widths with ReLU between them (none after the last)."""
    layers: list[nn.Module] = []
    for place, (wide, narrow) in enumerate(itertools.pairwise(widths)):
        if place:
            layers.append(nn.ReLU())
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(wide, narrow))
    return nn.Sequential(*layers)


def reconstruction_loss(likelihood: str, out: Tensor, x: Tensor) -> Tensor:
    """Negative log-likelihood of `x` under the decoder's output, summed over an item, averaged over the batch.

    "bernoulli": `out` are logits of pixels in [0, 1]. "gaussian": `out` are means, unit variance.
    "multinomial": `out` are logits of words, `x` weights that count as word frequencies once they sum to 1.
    """
    return item_losses(likelihood, out, x).mean()


def item_losses(likelihood: str, out: Tensor, x: Tensor) -> Tensor:
    """`reconstruction_loss` of each item, `(B,)`."""
    out, x = out.flatten(1), x.flatten(1)
    if likelihood == "bernoulli":
        return functional.binary_cross_entropy_with_logits(out, x, reduction="none").sum(1)
    if likelihood == "gaussian":
        return 0.5 * (out - x).square().sum(1)
    weights = x / x.sum(1, keepdim=True).clamp_min(1e-9)
    return -(weights * out.log_softmax(1)).sum(1)


def expectation(likelihood: str, out: Tensor) -> Tensor:
    """The item that the decoder's output stands for, in the input's own range."""
    if likelihood == "bernoulli":
        return out.sigmoid()
    if likelihood == "gaussian":
        return out
    return functional.normalize(out.softmax(1), dim=1)


def start_from_word_use(last: nn.Linear, x: Tensor) -> None:
    """Let a decoder of words start from how often each is used in the texts `x` `(n, words)`, and little else."""
    with torch.no_grad():
        use = x.sum(0) / x.sum().clamp_min(1e-9)
        last.bias.copy_((use + 1e-6).log())
        last.weight.mul_(0.3)


def corrupt(x: Tensor, likelihood: str, share: float) -> Tensor:
    """`x` with a random `share` of its numbers set to zero ("word dropout" for text)."""
    kept = torch.rand_like(x) >= share
    out = x * kept
    if likelihood == "multinomial":  # the encoder expects rows of unit length
        return functional.normalize(out, dim=1)
    return out


def mean_filled(x: Tensor, mask: Tensor) -> Tensor:
    """`x` with the mean of each item's known part where `mask` is 1: a first guess at what is missing."""
    known = 1 - mask
    mean = (x * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
    return torch.where(mask > 0, mean.view(-1, *[1] * (x.dim() - 1)), x)
