"""The linear hashes that every learned one is held against, fitted in closed form.

`lsh`: random hyperplanes through the mean (Charikar, STOC 2002). `pca-sign`: signs of the principal components.
`itq`: principal components rotated to lose least by taking signs (Gong and Lazebnik, CVPR 2011).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..base import FamilyParams, Model
from ..inputs import InputSpec, Rows
from ..parts.rotation import Method, Rotation


class LinearHash(Model):
    """Signs of a rotation of the raw input."""

    roles = ()
    encodes_at_once = True
    method: ClassVar[Method]

    def __init__(self, input: InputSpec, bits: int, params: FamilyParams) -> None:
        super().__init__(input, bits, params)
        self.rotation = Rotation(input.size, bits)

    def encode(self, x: Tensor) -> Tensor:
        return self.rotation.logits(x.flatten(1))

    def fit_hash(self, rows: Rows) -> None:
        # The trainer has seeded torch: another seed is another draw, or another start, as it is of a learned family.
        self.rotation.fit(rows, lambda x: x.flatten(1), self.method, seed=torch.initial_seed())

    def decode(self, bits: Tensor) -> Tensor:
        x = self.rotation.restore(bits).unflatten(1, self.input.shape)
        return x if self.input.likelihood == "gaussian" else x.clamp_min(0)


class Lsh(LinearHash):
    """Random hyperplanes: no learning, the floor."""

    family = "lsh"
    method = "random"


class PcaSign(LinearHash):
    """Signs of the principal components; beyond the input's own dimension, of a rotation of them."""

    family = "pca-sign"
    method = "pca"


class Itq(LinearHash):
    """Iterative quantisation: the linear hash to beat."""

    family = "itq"
    method = "itq"
