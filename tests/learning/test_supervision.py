"""Learning from labels and pairs: what is known of items reaches the loss, held-out items stay held out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.base import Batch, build, families
from models.batches import Batches
from models.errors import DataError, InvalidParams
from models.inputs import VectorInput
from models.objectives.supervision import nearness, supervised_contrast
from models.supervision import Mates, Supervision
from models.train import TrainConfig, Trainer

HASHING = ("bernoulli-vae", "binary-autoencoder")


def signs(count: int, bits: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, bits, generator=torch.Generator().manual_seed(seed)).sign()


def hidden_groups(n: int = 400, seed: int = 0) -> tuple[np.ndarray[Any, Any], list[str | None]]:
    """Vectors whose label is the sign of a weak direction: what is near says next to nothing of it."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 2, n)
    items = rng.normal(size=(n, 12)).astype(np.float32)
    items[:, 0] = (groups * 2 - 1) * (0.7 + 0.1 * items[:, 0])
    items[:, 1:6] *= 3
    return items, [f"group {group}" for group in groups]


def test_supervised_contrast_is_the_mean_cross_entropy_of_telling_each_mate() -> None:
    bits, groups = signs(7, 16), torch.tensor([0, 0, 1, 1, 1, 2, -1])
    rows = torch.nn.functional.normalize(bits, dim=1)
    each = []
    for place in range(5):  # the row of group 2 has no mate, the last is not known
        others = [other for other in range(6) if other != place]
        share = torch.tensor([float(rows[place] @ rows[other]) / 0.3 for other in others]).log_softmax(0)
        each.append(-np.mean([float(share[others.index(o)]) for o in others if groups[o] == groups[place]]))
    assert float(supervised_contrast(bits, groups, 0.3)) == pytest.approx(np.mean(each), rel=1e-5)
    alike = signs(3, 16)[[0, 0, 1, 1, 1, 2, 2]]
    assert supervised_contrast(alike, groups, 0.3) < supervised_contrast(bits, groups, 0.3)
    assert float(supervised_contrast(bits, torch.arange(7), 0.3)) == 0, "no two belong together"
    assert float(supervised_contrast(bits, torch.full((7,), -1), 0.3)) == 0, "nothing is known"


def test_nearness_is_none_from_half_of_the_bits_on() -> None:
    ones = torch.ones(1, 8)
    half = torch.cat([torch.ones(1, 4), -torch.ones(1, 4)], 1)
    assert float(nearness(torch.cat([ones, ones]), torch.tensor([[0, 1]]))) == pytest.approx(1)
    assert float(nearness(torch.cat([ones, half, -ones]), torch.tensor([[0, 1], [0, 2]]))) == pytest.approx(0)


def test_pairs_make_groups_of_what_hangs_together_and_contradictions_are_refused() -> None:
    known = Supervision.from_pairs([(0, 1, True), (2, 1, True), (4, 5, True), (5, 0, False), (7, 8, False)], 10)
    groups = known.groups
    assert groups[0] == groups[1] == groups[2] != groups[4] == groups[5]
    assert groups[7] != groups[8]
    assert min(groups[7], groups[8]) >= 0
    assert (groups[[3, 6, 9]] == -1).all()
    assert known.apart.tolist() == [[5, 0], [7, 8]]
    assert known.metrics() == {"supervised": "pairs", "labelled": 7}
    part = known.subset(np.array([8, 7, 5]))
    assert part.apart.tolist() == [[1, 0]]
    assert part.groups.tolist() == groups[[8, 7, 5]].tolist()
    with pytest.raises(DataError, match="pair 1 says that its items do not belong together"):
        Supervision.from_pairs([(0, 1, True), (0, 2, False), (1, 2, True)], 3)
    with pytest.raises(DataError, match="none of the 1 pairs"):
        Supervision.from_pairs([(0, 1, False)], 3)


def test_labels_that_say_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="0 labelled of 2 items have 0 different labels"):
        Supervision.from_labels([None, None])
    with pytest.raises(DataError, match="2 labelled of 2 items have 1 different"):
        Supervision.from_labels(["a", "a"])
    with pytest.raises(DataError, match="no two of the 2 labelled"):
        Supervision.from_labels(["a", "b", None])


def test_mates_are_others_of_the_same_group_and_are_put_in_only_where_chance_brings_few() -> None:
    order = np.random.default_rng(0)
    rare = Supervision.from_labels([f"{place // 3}" if place < 90 else None for place in range(1000)])
    mates = Mates(rare, 64)
    drawn = set()
    for _ in range(100):
        places, apart = mates.draw(order)
        assert len(places) == 32
        assert len(apart) == 0
        anchors, others = places[:16], places[16:]
        assert (rare.groups[anchors] == rare.groups[others]).all()
        assert (anchors != others).all()
        drawn |= set(others.tolist())
    assert drawn == set(range(90))
    common = Supervision.from_labels([f"{place % 10}" for place in range(1000)])
    assert len(Mates(common, 64).draw(order)[0]) == 0
    pairs = Supervision.from_pairs([(0, 1, True), (2, 3, False), (4, 5, False)], 1000)
    places, apart = Mates(pairs, 64).draw(order)
    assert {frozenset(places[row].tolist()) for row in apart} == {frozenset((2, 3)), frozenset((4, 5))}
    assert {frozenset(pair) for pair in zip(places[:2].tolist(), places[2:4].tolist(), strict=True)} == {
        frozenset((0, 1))
    }


def test_batches_carry_what_is_known_of_their_items() -> None:
    items, _ = hidden_groups(80)
    model = build("binary-autoencoder", VectorInput.fit(items), 8, {})
    known = Supervision.from_pairs([(0, 1, True), (2, 3, False)], 80)
    for batch in Batches(model, model.input.rows(items), known, 16, np.random.default_rng(0)):
        assert batch.labels is not None
        assert batch.apart is not None
        assert batch.neighbour is not None
        assert len(batch.x) == len(batch.labels) == len(batch.neighbour) == 16 + 6
        for a, b in batch.apart.tolist():
            assert {batch.labels[a].item(), batch.labels[b].item()} == set(known.groups[2:4].tolist())


@pytest.mark.parametrize("family", HASHING)
def test_supervision_reaches_the_encoder_and_can_be_weighed(family: str) -> None:
    items, _ = hidden_groups(64)
    x = VectorInput.fit(items).tensor(items)
    batch = Batch(x, labels=torch.arange(64) % 2, apart=torch.tensor([[0, 1], [2, 5]]))
    for weight, present in ((None, True), (2.0, True), (0.0, False)):
        model = build(family, VectorInput.fit(items), 16, {"supervision": weight})
        _, terms = model.train().loss(batch, "autoencoder")
        assert ("supervision" in terms and "apart" in terms) == present
    assert "supervision" not in model.train().loss(Batch(x), "autoencoder")[1]


def learned(items: Any, labels: Any, family: str = "binary-autoencoder", **how: Any) -> Trainer:
    model = build(family, VectorInput.fit(items), 16, {})
    trainer = Trainer(model, TrainConfig(epochs=8, batch_size=32, learning_rate=3e-3, device="cpu"))
    for _ in trainer.fit(items, labels, **how):
        pass
    return trainer


@pytest.mark.parametrize("family", HASHING)
def test_labels_teach_what_nearness_does_not_say_also_where_some_are_missing(family: str) -> None:
    items, labels = hidden_groups()
    without, with_labels = learned(items, labels, family), learned(items, labels, family, learn_labels=True)
    some = [None if place % 3 == 0 else label for place, label in enumerate(labels)]
    with_some = learned(items, some, family, learn_labels=True)
    assert without.metrics["retrieval"] < 0.75
    assert with_labels.metrics["retrieval"] > 0.9
    assert with_some.metrics["retrieval"] > 0.8
    assert "supervised" not in without.metrics
    assert "nearest in input space" in without.metrics["epoch_chosen_by"]
    assert without.metrics["retrieval_measure"] == "precision@10 by label"
    assert (with_labels.metrics["supervised"], with_labels.metrics["labelled"]) == ("labels", 400)
    assert with_labels.metrics["epoch_chosen_by"] == "precision@10 by label"
    assert with_some.metrics["labelled"] == 266


def test_pairs_teach_too() -> None:
    items, labels = hidden_groups()
    rng = np.random.default_rng(1)
    drawn = [tuple(sorted(rng.choice(400, 2, replace=False).tolist())) for _ in range(300)]
    pairs = [(a, b, labels[a] == labels[b]) for a, b in dict.fromkeys(drawn)]
    trainer = learned(items, labels, pairs=pairs)
    assert trainer.metrics["supervised"] == "pairs"
    assert trainer.metrics["retrieval"] > learned(items, labels).metrics["retrieval"] + 0.1


def test_what_is_learned_never_sees_a_label_that_it_was_not_told_to_learn_from() -> None:
    items, labels = hidden_groups()
    a, b = learned(items, labels).model.logits(items), learned(items, None).model.logits(items)
    assert np.array_equal(a, b), "labels that are only there change nothing, not even the epoch"


def test_held_out_items_are_never_in_a_batch() -> None:
    items, labels = hidden_groups()
    model = build("binary-autoencoder", VectorInput.fit(items), 16, {})
    seen: list[torch.Tensor] = []
    own = model.loss
    model.loss = lambda batch, role: (seen.append(batch.x), own(batch, role))[1]  # type: ignore[assignment, func-returns-value]
    rare = [f"{label} {place // 4}" for place, label in enumerate(labels)]  # so that mates are put in
    list(Trainer(model, TrainConfig(epochs=2, device="cpu")).fit(items, rare, learn_labels=True))
    distinct = torch.unique(torch.cat(seen), dim=0)
    assert len(distinct) == 360


def test_families_that_cannot_learn_from_labels_say_which_can() -> None:
    items, labels = hidden_groups(40)
    assert tuple(sorted(name for name, family in families().items() if family.supervised)) == HASHING
    for how in ({"learn_labels": True}, {"pairs": [(0, 1, True)]}):
        with pytest.raises(InvalidParams, match=r"itq cannot learn .* bernoulli-vae, binary-autoencoder can"):
            learned(items, labels, "itq", **how)
    with pytest.raises(InvalidParams, match="not from both"):
        learned(items, labels, learn_labels=True, pairs=[(0, 1, True)])
    with pytest.raises(DataError, match="there are no labels"):
        learned(items, None, learn_labels=True)
