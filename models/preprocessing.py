"""What an input kind is: how items rest, become tensors and become items again.

Each kind is a module whose fitted numbers are buffers, so they are saved with the weights and count in the
fingerprint: the same item means the same tensor for as long as the model exists. The kinds are in `inputs` and `audio`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from .errors import ArtefactDamaged
from .readers import Items


class Rows:
    """Preprocessed items at rest, made into tensors a batch at a time."""

    def __init__(self, data: NDArray[Any] | csr_matrix, input: InputSpec) -> None:
        self.data = data  # (n, ...), compact
        self._input = input

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def take(self, places: NDArray[np.int64]) -> Tensor:
        """The rows at `places` as a tensor `(len(places), *shape)`."""
        return self._input.to_tensor(self.data[places])

    def views(self, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Two augmented views of each of the rows at `places`, `(len(places), *shape)`, drawn anew with every call."""
        return self._input.views(self.data[places])

    def sample(self, most: int) -> Tensor:
        """At most `most` rows, spread evenly over all of them."""
        return self.take(np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).astype(np.int64)))

    def subset(self, places: NDArray[np.int64]) -> Rows:
        """Only the rows at `places`."""
        return Rows(self.data[places], self._input)


class InputSpec(nn.Module):
    """One kind of input: how items become tensors `(n, *shape)` and how tensors become items."""

    kind: ClassVar[str]
    likelihood: ClassVar[str]
    """How a reconstruction is judged: "bernoulli", "gaussian" or "multinomial" (see `layers`)."""
    restores: ClassVar[bool] = True
    """Whether a tensor can be made an item again."""
    at_once: ClassVar[bool] = True
    """Whether an item becomes a tensor in so little time, and so surely, that others can wait for it."""
    shape: tuple[int, ...]

    @property
    def near_zero(self) -> float:
        """A logit so close to zero, against the largest of its item, is computed again of `exact` (`Model.logits`)."""
        return 1e-5

    @property
    def form(self) -> str:
        """The kind of input that the tensors are like: whose recipe suits them."""
        return self.kind

    @property
    def size(self) -> int:
        """Numbers in one row: the product of `shape`."""
        return int(np.prod(self.shape))

    @classmethod
    @abstractmethod
    def fit(cls, items: Items) -> Self:
        """The preprocessing that suits `items`."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The module that `config` describes, its buffers still to be loaded. Raises `ArtefactDamaged`."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """All that `from_config` needs, as JSON."""

    @abstractmethod
    def rest(self, items: Items) -> NDArray[Any] | csr_matrix:
        """Items in compact form, one a row. Raises `InvalidInput` with the position of the first bad one."""

    @abstractmethod
    def to_tensor(self, data: Any) -> Tensor:
        """Compact rows as a float32 tensor `(n, *shape)`."""

    @abstractmethod
    def restore(self, x: Tensor) -> list[Any]:
        """Tensors `(n, *shape)` as items."""

    def restore_like(self, x: Tensor, item: Any) -> Any:
        """The one item of `x` `(1, *shape)`, a repaired `item`: like it in what a tensor does not hold."""
        return self.restore(x)[0]

    def spoiled(self, x: Tensor, sigma: Tensor) -> Tensor:
        """`x` `(B, *shape)` as the noise that items of this kind meet makes it, of about the level `sigma` `(B, ...)`.

        Drawn with torch's global generator.
        """
        return x + sigma * torch.randn_like(x)

    @abstractmethod
    def view(self, x: Tensor) -> Tensor:
        """An augmented view of each of `x` `(B, *shape)`: another version of what to a person is the same item.

        Drawn with torch's global generator (see `views`).
        """

    def views(self, data: Any) -> tuple[Tensor, Tensor]:
        """Two augmented views of each of the compact rows, `(n, *shape)`: by default changed independently."""
        x = self.to_tensor(data)
        return self.view(x), self.view(x)

    @abstractmethod
    def example(self) -> Any:
        """Some item that this input can take."""

    def exact(self, x: Tensor, items: Items) -> Tensor:
        """`x` `(n, *shape)`, the tensor of `items`, in float64, the same for an item alone as within any batch."""
        return x.double()

    def shrink(self, item: Any) -> Any:
        """The item without what `rest` would throw away, so that many can be held at once."""
        return item

    def rows(self, items: Items) -> Rows:
        """Items preprocessed for training."""
        return Rows(self.rest(items), self)

    def tensor(self, items: Items) -> Tensor:
        """Items as a float32 tensor `(n, *shape)`."""
        return self.to_tensor(self.rest(items))


def whole(config: Mapping[str, Any], name: str, largest: int) -> int:
    """The whole number from 1 to `largest` that `config` has under `name`. Raises `ArtefactDamaged`."""
    value = config.get(name)
    if type(value) is not int or not 1 <= value <= largest:
        raise ArtefactDamaged(f"the config's {name} must be a whole number from 1 to {largest}; it is {value!r}")
    return value
