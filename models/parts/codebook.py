"""Vector quantisation with a codebook that follows its vectors.

An encoder's vector z becomes the nearest of K entries e_k. Entries are moving averages of the vectors given to them
(van den Oord, Vinyals and Kavukcuoglu, NIPS 2017, appendix A.1), and move in `learn` only:

    N_k <- g N_k + (1 - g) n_k,   m_k <- g m_k + (1 - g) sum of z,   e_k = m_k / N_k

with the N smoothed by `_SMOOTHING` (Laplace). Entries start from k-means on the encoder's first output and one that
nobody has used for `restart` batches starts again from a vector of the batch: without that a codebook collapses to the
few entries that were near at first (Dhariwal et al., "Jukebox", 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_SMOOTHING = 1e-5
_LLOYD_ROUNDS = 10
_ROWS = 8192
"""Vectors compared with the whole codebook at once."""


class Codebook(nn.Module):
    """`size` entries of `dim` numbers, and how much each is used."""

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    idle: Tensor
    tally: Tensor
    use: Tensor

    def __init__(self, size: int, dim: int, *, decay: float, restart: int) -> None:
        super().__init__()
        self.size, self.decay, self.restart = size, decay, restart
        self.register_buffer("vectors", torch.randn(size, dim))
        self.register_buffer("counts", torch.ones(size))  # N
        self.register_buffer("sums", self.vectors.clone())  # m
        # What follows is for the progress record and for restarts: no part of the model once it is trained.
        self.register_buffer("idle", torch.zeros(size, dtype=torch.int64), persistent=False)
        self.register_buffer("tally", torch.zeros(size), persistent=False)
        self.register_buffer("use", torch.zeros(size), persistent=False)
        self.epoch = 0

    @torch.no_grad()
    def start(self, z: Tensor, *, epoch: int) -> None:
        """Entries from k-means on vectors `(n, dim)`; `epoch` is how many vectors make one pass over the data."""
        self.vectors.copy_(k_means(z, self.size))
        self.sums.copy_(self.vectors)
        self.counts.fill_(1)
        self.epoch = epoch

    def nearest(self, z: Tensor) -> Tensor:
        """The code `(n,)` of each vector `(n, dim)`: the place of the nearest entry."""
        return torch.cat([self._distances(part).argmin(1) for part in z.split(_ROWS)])

    def margin(self, z: Tensor) -> Tensor:
        """How much farther the second nearest entry is than the nearest, against the lengths involved, `(n,)`.

        Where this is no more than rounding, so is the choice of the code.
        """
        two = self._distances(z).topk(2, largest=False).values
        scale = z.square().sum(1) + self.vectors.square().sum(1).amax()
        return (two[:, 1] - two[:, 0]) / scale

    def forward(self, codes: Tensor) -> Tensor:
        """The entries `(..., dim)` of codes `(...)`."""
        return functional.embedding(codes, self.vectors)

    @torch.no_grad()
    def learn(self, z: Tensor, codes: Tensor) -> None:
        """Move the entries towards the vectors `(n, dim)` that were given to them as `codes` `(n,)`."""
        z = z.detach().to(self.vectors.dtype)
        each = torch.zeros_like(self.counts).index_add_(0, codes, torch.ones_like(z[:, 0]))
        total = torch.zeros_like(self.sums).index_add_(0, codes, z)
        self.counts.lerp_(each, 1 - self.decay)
        self.sums.lerp_(total, 1 - self.decay)
        self.idle.add_(1).mul_(each == 0)
        dead = (self.idle >= self.restart).nonzero().flatten() if self.restart else self.idle[:0]
        if len(dead):
            chosen = torch.randint(len(z), (len(dead),), device=z.device)
            self.sums[dead] = z[chosen]
            self.counts[dead] = 1
            self.idle[dead] = 0
        n = self.counts.sum()
        smoothed = (self.counts + _SMOOTHING) / (n + self.size * _SMOOTHING) * n
        self.vectors.copy_(self.sums / smoothed[:, None])
        self._count(each)

    def _count(self, each: Tensor) -> None:
        """Use is of a whole pass over the data: a single batch uses fewer entries than the data do."""
        if self.tally.sum() >= self.epoch:
            self.use.copy_(self.tally)
            self.tally.zero_()
        self.tally.add_(each)

    def usage(self) -> tuple[Tensor, Tensor]:
        """Perplexity, and share of the entries used at all, over the last whole epoch (over the first, so far)."""
        return usage(self.use if self.use.any() else self.tally)

    def _distances(self, z: Tensor) -> Tensor:
        """Squared distances `(n, size)` less |z|^2."""
        with torch.autocast(z.device.type, enabled=False):  # codes must not depend on how training rounds
            vectors = self.vectors
            return vectors.square().sum(1) - 2 * z.to(vectors.dtype) @ vectors.T


def usage(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Perplexity, the exponential of the entropy, of `counts` `(size,)`, and the share of them that are not zero."""
    share = counts / counts.sum().clamp_min(1)
    return torch.special.entr(share).sum().exp(), (counts > 0).to(share.dtype).mean()


def k_means(z: Tensor, k: int) -> Tensor:
    """`k` means of vectors `(n, dim)`: a few of Lloyd's rounds from k-means++ (Arthur and Vassilvitskii, SODA 2007).

    Where there are fewer distinct vectors than means, some means are alike up to a little noise.
    """
    means = z[torch.randint(len(z), (1,), device=z.device)]
    distance = (z - means).square().sum(1)
    chosen = [means[0]]
    for _ in range(k - 1):
        place = torch.multinomial(distance + 1e-12, 1)
        chosen.append(z[place[0]])
        distance = torch.minimum(distance, (z - z[place]).square().sum(1))
    means = torch.stack(chosen)
    for _ in range(_LLOYD_ROUNDS):
        codes = torch.cdist(z, means).argmin(1)
        each = torch.zeros_like(means[:, 0]).index_add_(0, codes, torch.ones_like(z[:, 0]))
        total = torch.zeros_like(means).index_add_(0, codes, z)
        means = torch.where(each[:, None] > 0, total / each.clamp_min(1)[:, None], means)
    return means + 1e-4 * z.std() * torch.randn_like(means)
