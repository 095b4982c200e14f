"""The objectives of a hashing family put together: which there are and how much each weighs.

A family adds its own reconstruction. What the user leaves out comes from the family's recipe for the kind of input,
which was chosen by measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import torch
from pydantic import Field
from torch import Tensor

from ..base import Batch, FamilyParams, Terms
from .balance import correlation, imbalance
from .contrast import nt_xent
from .estimators import Estimator, draw
from .information import changed_mind, lost_information
from .supervision import nearness, supervised_contrast


@dataclass(frozen=True)
class Recipe:
    """What codes are asked for; a weight of 0 leaves its objective out. The fields are those of `HashingParams`."""

    estimator: Estimator = "straight-through"
    sharpness: float = 3.0
    neighbours: int = 0
    pairing: float = 0.0
    contrast: float = 0.0
    views: float = 0.0
    kindred: float = 0.0
    spans: float = 0.0
    denoise: bool = False
    temperature: float = 0.3
    balance: float = 0.0
    decorrelation: float = 0.0
    information: float = 0.0
    supervision: float = 3.0


WeighedTerms = Mapping[str, tuple[float, Tensor]]
"""By name the weight and the value of each term of a loss."""


def weighed(terms: WeighedTerms) -> tuple[Tensor, Terms]:
    """The weighed sum of terms, 0 for none, and the terms themselves."""
    total = sum((weight * value for weight, value in terms.values()), start=torch.zeros(()))
    return total, {name: value for name, (_, value) in terms.items()}


class HashingParams(FamilyParams):
    """The objectives; what is left out is chosen by the kind of input."""

    estimator: Estimator | None = Field(None, description="how gradients pass through bits")
    sharpness: float | None = Field(
        None, gt=0, le=100, description="what logits are multiplied by before a bit is drawn; little makes noisy bits"
    )
    neighbours: int | None = Field(None, ge=0, le=1000, description="nearest items that an item learns from; 0: none")
    pairing: float | None = Field(None, ge=0, le=1, description="share of items decoded towards a neighbour")
    contrast: float | None = Field(None, ge=0, le=100, description="weight of telling a neighbour from other items")
    views: float | None = Field(None, ge=0, le=100, description="weight of telling an augmented view from other items")
    kindred: float | None = Field(
        None, ge=0, le=1, description="share of items of which one of both views is a view of a neighbour"
    )
    spans: float | None = Field(
        None, ge=0, le=1, description="share of texts whose views are runs of words instead of words from anywhere"
    )
    denoise: bool | None = Field(None, description="whether items are decoded from the code of a view of them")
    temperature: float | None = Field(None, gt=0, le=10, description="of the contrasts; a lower one looks nearer")
    balance: float | None = Field(None, ge=0, le=1000, description="weight of bits being 1 for half of the items")
    decorrelation: float | None = Field(None, ge=0, le=1000, description="weight of no two bits saying the same")
    information: float | None = Field(None, ge=0, le=1000, description="weight of bits being certain of each item")
    supervision: float | None = Field(
        None, ge=0, le=100, description="weight of what labels or pairs say, where they are to be learned from"
    )

    def over(self, recipe: Recipe) -> Recipe:
        """`recipe` with what is given here in place of its own."""
        own = {field.name: getattr(self, field.name) for field in fields(Recipe)}
        return replace(recipe, **{name: value for name, value in own.items() if value is not None})


class Hashing:
    """The terms that a recipe asks for."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @property
    def neighbours(self) -> int:
        """How many nearest items are needed, 0 where nothing is learned from them."""
        recipe = self.recipe
        return recipe.neighbours if recipe.pairing or recipe.contrast or self.kindred else 0

    @property
    def views(self) -> bool:
        """Whether augmented views are needed."""
        return self.recipe.views > 0 or self.recipe.denoise

    @property
    def kindred(self) -> float:
        """The share of items of which the second view is to be of a neighbour."""
        return self.recipe.kindred if self.views and self.recipe.neighbours else 0.0

    def seen(self, batch: Batch) -> Tensor:
        """What the codes that items are decoded from see: the items, or of each a view."""
        return batch.views[0] if self.recipe.denoise and batch.views is not None else batch.x

    def bits(self, logits: Tensor) -> Tensor:
        """Drawn bits of the shape of `logits`, from 0 to 1."""
        return draw(self.recipe.sharpness * logits, self.recipe.estimator)

    def terms(self, logits: Tensor, bits: Tensor, batch: Batch, encode: Callable[[Tensor], Tensor]) -> WeighedTerms:
        """What the recipe asks for.

        logits, bits: of what was `seen`, `(B, bits)`. encode: the same logits for other items of the same shape.
        """
        recipe, terms = self.recipe, dict[str, tuple[float, Tensor]]()
        if recipe.contrast and batch.neighbour is not None:
            near = self.bits(encode(batch.neighbour))
            terms["contrast"] = recipe.contrast, nt_xent(2 * bits - 1, 2 * near - 1, recipe.temperature)
        if recipe.views and batch.views is not None:
            a = logits if recipe.denoise else encode(batch.views[0])
            first = bits if recipe.denoise else self.bits(a)
            alike = nt_xent(2 * first - 1, 2 * self.bits(encode(batch.views[1])) - 1, recipe.temperature)
            terms["views"] = recipe.views, alike
            if recipe.information:
                change = changed_mind(recipe.sharpness * logits, recipe.sharpness * a)
                terms["change of mind"] = recipe.information, change
        if recipe.supervision and batch.labels is not None:
            told = supervised_contrast(2 * bits - 1, batch.labels, recipe.temperature)
            terms["supervision"] = recipe.supervision, told
            if batch.apart is not None and len(batch.apart):
                terms["apart"] = recipe.supervision, nearness(2 * bits - 1, batch.apart)
        if recipe.balance:
            terms["imbalance"] = recipe.balance, imbalance(recipe.sharpness * logits)
        if recipe.decorrelation:
            terms["correlation"] = recipe.decorrelation, correlation(logits)
        if recipe.information:
            terms["lost information"] = recipe.information, lost_information(recipe.sharpness * logits)
        return terms
