"""Supervision: codes of items that are known to belong together are alike, those of others are not."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def supervised_contrast(bits: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss of rows `bits` `(B, bits)` of the groups `(B,)`, -1 for not known: a scalar.

    Each row must tell the others of its group from all that are known: the mean over those of -log of their share
    (L_out of Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020), over rows that have others. What is not
    known takes no part, not even as something to be told apart: among ten labels a tenth of it would be told from its
    own kind. 0 where no two rows are of one group.
    """
    known = groups >= 0
    rows, groups = functional.normalize(bits[known], dim=1), groups[known]
    mates = (groups[:, None] == groups[None, :]).fill_diagonal_(False)
    count = mates.sum(1)
    if not bool(count.any()):
        return bits.sum() * 0
    share = (rows @ rows.T / temperature).fill_diagonal_(-1e9).log_softmax(1)
    each = -(share * mates).sum(1) / count.clamp_min(1)
    return each[count > 0].mean()


def nearness(bits: Tensor, apart: Tensor) -> Tensor:
    """How much nearer than items that have nothing to do with each other the pairs of rows `apart` `(m, 2)` lie.

    The mean cosine of `bits` `(B, bits)`, -1 or 1, beyond 0, which is half of the bits: further apart than that no pair
    is pushed (the hinge of Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR
    2006).
    """
    return functional.cosine_similarity(bits[apart[:, 0]], bits[apart[:, 1]]).clamp_min(0).mean()
