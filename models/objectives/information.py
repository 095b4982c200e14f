"""Information maximisation: bits that are certain of each item and undecided over all of them."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid


def lost_information(logits: Tensor) -> Tensor:
    """log 2 less the mean over bits of I(bit; item) = H(E p) - E H(p) in nats: 0 to log 2, a scalar.

    The mutual information of regularised information maximisation (Krause, Perona and Gomes, NIPS 2010), taken a bit
    at a time as IMSAT does for hashing (Hu et al., ICML 2017), which leaves correlation to `balance`.
    """
    p = logits.sigmoid()
    certain = binary_cross_entropy_with_logits(logits, p)  # the mean entropy of a bit, the item known
    mean = p.mean(0).clamp(1e-6, 1 - 1e-6)
    spread = -(mean * mean.log() + (1 - mean) * (1 - mean).log()).mean()
    return 0.6931471805599453 - spread + certain


def changed_mind(logits: Tensor, others: Tensor) -> Tensor:
    """The mean cross-entropy in nats of bits of `others` under those of the same items `logits`: a scalar.

    Self-augmented training (IMSAT): what an augmented view or a neighbour says of a bit should be what the item says.
    No gradient passes through `logits`.
    """
    p = logits.detach().sigmoid()
    return -(p * logsigmoid(others) + (1 - p) * logsigmoid(-others)).mean()
