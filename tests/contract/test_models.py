"""The laws: every registered family, on every kind of input, keeps every promise of every capability it declares."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import part_of, sounds, topics, vectors

from models import neighbours
from models.artefact import fingerprint, load_model, read_artefact, save_artefact
from models.base import Batch, Model, build, families
from models.capabilities import CAPABILITIES, capabilities
from models.data import Dataset, load
from models.errors import ArtefactDamaged, DataError, InvalidInput, InvalidParams, TrainingFailed, UnknownModel
from models.inputs import INPUTS
from models.registry import Registry
from models.train import TrainConfig, Trainer

FAMILIES = sorted(families())
KINDS = sorted(INPUTS)
CASES = [(family, kind) for family in FAMILIES for kind in KINDS]
BITS = 32


@pytest.fixture(scope="module")
def data() -> dict[str, Dataset]:
    return {
        "image": part_of(load("digits"), 200),
        "text": topics(load("python-docs"), 5, 40),
        "vector": vectors(200),
        "audio": sounds(),
    }


Case = tuple[Model, Trainer, list[Any], Dataset]

_trained: dict[tuple[str, str], tuple[Model, Trainer, list[Any]]] = {}


SMALL: dict[str, Any] = {"hidden": 64, "channels": 8, "groups": [1, 1], "latents": 4, "expansion": 2}
SMALL |= {"prior_channels": 16, "prior_layers": 3}
"""Where a family has such a parameter: networks that train in seconds."""
SHORT = {"alae": 6, "acai": 9, "gan": 12, "vq-vae": 15, "denoising-autoencoder": 15}
SHORT |= {"contractive-autoencoder": 15}
"""Epochs on pictures and sounds for families whose steps take long there; elsewhere 30 (NVAE: 12)."""


def fit(
    family: str, data: Dataset, *, seed: int = 0, epochs: int | None = None, **params: Any
) -> tuple[Model, Trainer, list[Any]]:
    if epochs is None:
        epochs = 12 if family == "nvae" else SHORT.get(family, 30) if data.kind in ("image", "audio") else 30
    known = Model.registered[family].Params.model_fields
    small = {name: value for name, value in SMALL.items() if name in known}
    model = build(family, INPUTS[data.kind].fit(data.items), BITS, {**small, **params}, seed=seed)
    trainer = Trainer(model, TrainConfig(epochs=epochs, seed=seed, batch_size=16, learning_rate=3e-3, patience=30))
    return model, trainer, list(trainer.fit(data.items, data.labels))


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, data: dict[str, Dataset]) -> Case:
    """A trained model of each family on each kind, trained once."""
    family, kind = request.param
    if request.param not in _trained:
        _trained[request.param] = fit(family, data[kind])
    model, trainer, progress = _trained[request.param]
    return model, trainer, progress, data[kind]


def able(capability: str) -> pytest.MarkDecorator:
    """Only the cases whose family declares `capability`."""
    cases = [case for case in CASES if capability in capabilities(Model.registered[case[0]])]
    return pytest.mark.parametrize("case", cases, ids="-".join, indirect=True)


# -- training ----------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_progress_says_what_it_should(case: Case) -> None:
    model, trainer, progress, data = case
    if model.roles:
        assert progress
        first = [step for step in progress if step.epoch == 1][-1].losses  # of the whole epoch
        final = progress[-1].losses
        if len(model.stages) == 1 and model.chosen_by != "last":  # neither a game nor a sequence of tasks
            assert sum(final.values()) < sum(first.values())
        assert all(np.isfinite(value) for step in progress for value in step.losses.values())
        last = progress[-1]
        assert (last.step, last.epoch) == (last.steps, last.epochs)
        assert last.items_per_s > 0
        assert 0 <= last.retrieval <= 1
        earliest = 0 if model.begins_fitted else 1  # what begins fitted may be best as it began
        assert earliest <= trainer.metrics["best_epoch"] <= trainer.metrics["epochs_run"] == last.epochs
    assert 0 <= trainer.metrics["retrieval"] <= 1
    assert 0 < trainer.metrics["bit_balance"] <= 1
    assert trainer.metrics["items"] == len(data)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(case: Case) -> None:
    model, _, _, data = case
    first, again = (fingerprint(fit(model.family, data, epochs=1)[0]) for _ in range(2))
    assert first == again
    if model.roles:
        assert fingerprint(fit(model.family, data, epochs=1, seed=1)[0]) != first


def test_training_learns_something(case: Case) -> None:
    """Held-out retrieval is well above that of codes drawn at random."""
    _, trainer, _, data = case
    assert data.labels is not None
    chance = max(data.labels.count(label) for label in set(data.labels)) / len(data)
    assert trainer.metrics["retrieval"] > chance * 1.3, (chance, trainer.metrics)


# -- encode ------------------------------------------------------------------------------------------------------


def test_encode_gives_finite_logits_and_leaves_no_trace(case: Case) -> None:
    model, _, _, data = case
    logits = model.logits(data.items[:50])
    assert logits.shape == (50, BITS)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert len(np.unique(logits > 0, axis=0)) > 5
    assert not any(parameter.grad is not None and parameter.grad.requires_grad for parameter in model.parameters())
    assert model.logits([]).shape == (0, BITS)


def test_an_item_has_one_code_alone_in_a_batch_and_after_training_mode(case: Case) -> None:
    """reliability.md M4"""
    model, _, _, data = case
    items = data.items[:64]
    together = model.logits(items) > 0
    alone = np.concatenate([model.logits([item]) > 0 for item in items])
    assert np.array_equal(together, alone)
    backwards = model.logits(items[::-1])[::-1] > 0
    assert np.array_equal(together, backwards)
    model.train()
    assert np.array_equal(together, model.logits(items) > 0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert np.array_equal(together, model.logits(items) > 0)
    finally:
        torch.set_num_threads(before)


def test_the_double_that_settles_signs_follows_the_weights(data: dict[str, Dataset]) -> None:
    model, *_ = fit("itq", data["vector"])
    assert model._in_float64() is model._in_float64()
    before = model._in_float64().encode(torch.ones(1, 24, dtype=torch.float64))
    model.state_dict()["rotation.matrix"].mul_(-1)
    after = model._in_float64().encode(torch.ones(1, 24, dtype=torch.float64))
    assert torch.allclose(after, -before)


def test_a_model_loaded_in_inference_mode_is_like_any_other(tmp_path: Path, data: dict[str, Dataset]) -> None:
    folder = saved(fit("itq", data["vector"])[0], tmp_path / "1")
    with torch.inference_mode():
        model = load_model(folder)
        assert model._in_float64() is model._in_float64()


def test_large_values_do_not_loosen_the_promise(data: dict[str, Dataset]) -> None:
    """Rounding grows with the values; the margin within which a row is computed alone must grow too."""
    model, *_ = fit("itq", data["vector"])
    rng = np.random.default_rng(0)
    matrix = model.state_dict()["rotation.matrix"].numpy()
    items = []
    for place in range(200):  # far away, and almost on the hyperplane of one bit
        normal = matrix[:, place % BITS]
        far = rng.normal(size=24) * 1e5
        items.append((far - normal * (far @ normal) / (normal @ normal)).astype(np.float32))
    together = model.logits(items) > 0
    assert np.array_equal(together, np.concatenate([model.logits([item]) > 0 for item in items]))


def test_a_text_model_may_be_used_by_many_threads_at_once(tmp_path: Path, data: dict[str, Dataset]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    folder = saved(fit("lsh", data["text"])[0], tmp_path / "1")
    for _ in range(10):
        model = load_model(folder)
        with ThreadPoolExecutor(8) as pool:
            codes = list(pool.map(lambda _: (model.logits(["open a file"]) > 0).tobytes(), range(8)))  # noqa: B023
        assert len(set(codes)) == 1


# -- artefact and fingerprint --------------------------------------------------------------------------------------


def saved(model: Model, folder: Path) -> Path:
    save_artefact(model, folder, metrics={"retrieval": 0.5}, training={"seed": 0}, title="t")
    return folder


def test_a_saved_model_gives_the_same_codes_and_holds_no_pickle(case: Case, tmp_path: Path) -> None:
    model, _, _, data = case
    folder = saved(model, tmp_path / "1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.md", "checksums.json", "config.json", "metrics.json", "model.safetensors",
    ]  # fmt: skip
    assert not any(path.read_bytes().startswith((b"\x80\x04\x95", b"PK\x03\x04")) for path in folder.iterdir())
    loaded = load_model(folder)
    assert fingerprint(loaded) == fingerprint(model) == read_artefact(folder).fingerprint
    ours, theirs = model.logits(data.items[:50]), loaded.logits(data.items[:50])
    assert np.array_equal(ours > 0, theirs > 0)
    assert np.allclose(ours, theirs, atol=1e-5)  # where weights lie in memory decides how sums are rounded
    assert read_artefact(folder).card.startswith("---\n")


def test_the_fingerprint_changes_with_any_weight_and_any_preprocessing(case: Case) -> None:
    model, _, _, _ = case
    marks = {fingerprint(model)}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        first = (0,) * tensor.dim()
        old = tensor[first].clone()
        tensor[first] += 1
        marks.add(fingerprint(model))
        tensor[first] = old
        assert fingerprint(model) in marks, name
    floating = sum(tensor.is_floating_point() for tensor in model.state_dict().values())
    assert len(marks) == floating + 1


# -- capabilities --------------------------------------------------------------------------------------------------


def in_range(model: Model, x: torch.Tensor, n: int) -> None:
    assert x.shape == (n, *model.input.shape)
    assert torch.isfinite(x).all()
    if model.input.likelihood != "gaussian":
        assert float(x.min()) >= 0
    restored = model.input.restore(x)
    assert len(restored) == n


@torch.inference_mode()
@able("decode")
def test_decode_gives_items_of_the_input(case: Case) -> None:
    model, _, _, data = case
    model.eval()
    x = model.input.tensor(data.items[:20])
    bits = torch.from_numpy(model.logits(data.items[:20]) > 0).float()
    decoded = model.decode(bits)  # type: ignore[operator]
    in_range(model, decoded, 20)
    own = (decoded - x).flatten(1).square().sum(1).mean()
    others = (decoded - x.roll(7, 0)).flatten(1).square().sum(1).mean()
    assert own < others, "an item's code decodes to something nearer to that item than to another"


@torch.inference_mode()
@able("sample")
def test_sample_is_a_function_of_the_seed(case: Case) -> None:
    model, *_ = case
    model.eval()

    def draw(seed: int, temperature: float = 1.0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return model.sample(5, generator=generator, temperature=temperature)  # type: ignore[operator, no-any-return]

    in_range(model, draw(0), 5)
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert draw(0, 0.0).std(0).max() < 1e-6 < draw(0).std(0).max()


@torch.inference_mode()
@able("vary")
def test_vary_stays_nearer_to_its_item_than_a_sample_does(case: Case) -> None:
    model, _, _, data = case
    model.eval()
    x = model.input.tensor(data.items[:1])
    generator = torch.Generator().manual_seed(0)
    varied = model.vary(x, 32, generator=generator, temperature=0.5)  # type: ignore[operator]
    in_range(model, varied, 32)
    own = model.reconstruct(x)  # type: ignore[operator]
    sampled = model.sample(32, generator=generator)  # type: ignore[operator]
    assert (varied - own).flatten(1).norm(dim=1).mean() < (sampled - own).flatten(1).norm(dim=1).mean()


@torch.inference_mode()
@able("reconstruct")
def test_a_reconstruction_is_nearer_to_its_own_item(case: Case) -> None:
    model, _, _, data = case
    model.eval()
    x = model.input.tensor(data.items[:20])
    made = model.reconstruct(x)  # type: ignore[operator]
    in_range(model, made, 20)
    assert torch.equal(made, model.reconstruct(x))  # type: ignore[operator]
    own = (made - x).flatten(1).square().sum(1).mean()
    others = (made - x.roll(7, 0)).flatten(1).square().sum(1).mean()
    assert own < others


@torch.inference_mode()
@able("interpolate")
def test_a_path_leads_from_one_reconstruction_to_the_other(case: Case) -> None:
    model, _, _, data = case
    model.eval()
    a, b = model.input.tensor(data.items[:1]), model.input.tensor(data.items[7:8])
    path = model.interpolate(a, b, 6)  # type: ignore[operator]
    in_range(model, path, 6)
    ends = torch.cat([model.reconstruct(a), model.reconstruct(b)])  # type: ignore[operator]
    assert torch.allclose(path[[0, -1]], ends, atol=1e-5)
    assert torch.allclose(path, model.interpolate(b, a, 6).flip(0), atol=1e-4)  # type: ignore[operator]
    assert torch.allclose(model.interpolate(a, a, 3), ends[:1].expand_as(path[:3]), atol=1e-5)  # type: ignore[operator]
    assert len(torch.unique(path.flatten(1), dim=0)) > 2, "there is something between the ends"


def strange(model: Model, x: torch.Tensor) -> torch.Tensor:
    """What is nothing like `x`, within the range of the input."""
    generator = torch.Generator().manual_seed(0)
    if model.input.likelihood == "gaussian":
        return 4 * torch.randn(x.shape, generator=generator)
    noise = torch.rand(x.shape, generator=generator)
    return noise if model.input.likelihood == "bernoulli" else torch.nn.functional.normalize(noise, dim=1)


@torch.inference_mode()
@able("score")
def test_ordinary_items_score_above_strange_ones(case: Case) -> None:
    model, _, _, data = case
    model.eval()
    x = model.input.tensor(data.items[:30])
    scores = model.score(x)  # type: ignore[operator]
    assert scores.shape == (30,)
    assert torch.isfinite(scores).all()
    assert isinstance(model.scored_by, str)
    assert torch.equal(scores, model.score(x))  # type: ignore[operator]
    alone = torch.cat([model.score(one[None]) for one in x[:5]])  # type: ignore[operator]
    assert torch.allclose(scores[:5], alone, rtol=1e-3, atol=1e-3)
    odd = model.score(strange(model, x))  # type: ignore[operator]
    assert (scores[:, None] > odd[None, :]).float().mean() > 0.9


@torch.inference_mode()
@able("weigh")
def test_likelihood_ratios_are_antisymmetric_and_favour_items(case: Case) -> None:
    model, _, _, data = case
    model.eval()
    x = model.input.tensor(data.items[:20])
    there = model.log_ratio(strange(model, x), x)  # type: ignore[operator]
    assert there.shape == (20,)
    assert (there > 0).float().mean() > 0.75
    back = model.log_ratio(x, strange(model, x))  # type: ignore[operator]
    assert torch.allclose(there, -back, rtol=1e-3, atol=1e-3)
    assert model.log_ratio(x, x).abs().max() < 1e-5  # type: ignore[operator]


@torch.inference_mode()
@able("denoise")
def test_denoise_keeps_shape_and_range(case: Case) -> None:
    model, _, _, data = case
    model.eval()
    x = model.input.tensor(data.items[:10])
    in_range(model, model.denoise(x + 0.1), 10)  # type: ignore[operator]


@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 3])
@able("inpaint")
def test_inpaint_leaves_the_known_part_alone(case: Case, steps: int) -> None:
    model, _, _, data = case
    model.eval()
    x = model.input.tensor(data.items[:10])
    mask = torch.zeros_like(x)
    mask.flatten(1)[:, : model.input.size // 3] = 1
    spoiled = torch.where(mask > 0, torch.full_like(x, 0.7), x)
    filled = model.inpaint(spoiled, mask, steps=steps, generator=torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert torch.equal(filled[mask == 0], x[mask == 0])
    assert not torch.equal(filled[mask > 0], spoiled[mask > 0])
    again = model.inpaint(spoiled, mask, steps=steps, generator=torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert torch.equal(filled, again)
    whole = model.inpaint(x, torch.zeros_like(x), steps=steps, generator=torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert torch.equal(whole, x)


@torch.no_grad()
def test_roles_have_parameters_and_losses(case: Case) -> None:
    model, _, _, data = case
    x = model.input.tensor(data.items[:8])
    for role in model.roles:
        assert list(model.parameters_of(role))
        loss, terms = model.loss(Batch(x, x.roll(1, 0)), role)
        assert loss.dim() == 0
        assert torch.isfinite(loss)
        assert terms
    with pytest.raises(TypeError):
        Model.loss(model, Batch(x), "nobody")


def test_every_capability_is_had_by_some_family() -> None:
    had = set().union(*(capabilities(family) for family in Model.registered.values()))
    assert had == {"encode", *CAPABILITIES}


def test_every_family_has_a_paper_and_described_parameters() -> None:
    for name, family in Model.registered.items():
        module = __import__(family.__module__, fromlist=["_"])
        assert any(
            word in module.__doc__
            for word in ("ICLR", "JMLR", "IJAR", "CVPR", "STOC", "ICML", "NIPS", "NeurIPS", "ACL", "Science")
        ), name
        assert family.__doc__
        for field, info in family.Params.model_fields.items():
            assert info.description, f"{name}.{field}"


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "bits", "params", "why"),
    [
        ("nobody", 64, {}, "there is no family"),
        ("vae", 63, {}, "multiple of 8"),
        ("vae", 2**30, {}, "multiple of 8"),
        ("vae", 0, {}, "multiple of 8"),
        ("vae", 64, {"latnet": 3}, "latnet"),
        ("vae", 64, {"latent": 0}, "latent"),
        ("itq", 64, {"hidden": 3}, "hidden"),
    ],
)
def test_what_cannot_be_built(family: str, bits: int, params: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidParams, match=why):
        build(family, INPUTS["vector"].from_config({"kind": "vector", "dim": 4}), bits, params)


def test_inputs_that_are_refused(data: dict[str, Dataset]) -> None:
    model = _trained.get(("itq", "vector")) or fit("itq", data["vector"])
    vector = np.zeros(24, np.float32)
    with pytest.raises(InvalidInput, match="24 numbers; got 3") as caught:
        model[0].logits([vector, vector[:3]])
    assert caught.value.position == 1
    for bad in (np.nan, np.inf):
        with pytest.raises(InvalidInput, match="finite") as caught:
            model[0].logits([vector, vector, np.full(24, bad, np.float32)])
        assert caught.value.position == 2


def test_training_that_is_refused(data: dict[str, Dataset]) -> None:
    with pytest.raises(DataError, match="at least 20"):
        list(Trainer(fit("itq", data["vector"])[0], TrainConfig()).fit(data["vector"].items[:5]))
    with pytest.raises(DataError, match="all the vectors are equal"):
        INPUTS["vector"].fit(np.zeros((30, 3), np.float32))
    with pytest.raises(DataError, match="no vocabulary"):
        INPUTS["text"].fit(["", "..."])


def test_a_loss_that_is_not_finite_stops_training(data: dict[str, Dataset]) -> None:
    spec = INPUTS["vector"].fit(data["vector"].items)
    model = build("vae", spec, 32, {"hidden": 8})
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingFailed, match="learning_rate"):
        list(Trainer(model, TrainConfig(epochs=1)).fit(data["vector"].items))


def test_training_without_labels_is_judged_by_neighbours(data: dict[str, Dataset]) -> None:
    model = build("itq", INPUTS["vector"].fit(data["vector"].items), 64, {})
    trainer = Trainer(model, TrainConfig())
    list(trainer.fit(data["vector"].items))
    assert "nearest in input space" in trainer.metrics["retrieval_measure"]
    assert trainer.metrics["retrieval"] > 0.3


def test_time_is_kept(data: dict[str, Dataset]) -> None:
    model = build("vae", INPUTS["vector"].fit(data["vector"].items), 32, {"hidden": 8})
    progress = list(Trainer(model, TrainConfig(epochs=100_000, max_seconds=0.5)).fit(data["vector"].items))
    assert progress[-1].epoch < 100_000
    assert progress[-1].retrieval is not None


@pytest.mark.parametrize("kind", ["image", "text", "vector"])
def test_neighbours_are_the_nearest(data: dict[str, Dataset], kind: str) -> None:
    rows = INPUTS[kind].fit(data[kind].items).rows(data[kind].items)
    x = rows.take(np.arange(len(rows))).flatten(1)
    d = torch.cdist(x, x).fill_diagonal_(float("inf"))
    table = neighbours.table(rows, 5, np.random.default_rng(0))
    assert table.shape == (len(rows), 5)
    got = d.gather(1, torch.from_numpy(table)).sort(1).values
    assert torch.allclose(got, d.topk(5, largest=False).values, atol=1e-3)


# -- damaged artefacts (reliability.md F4, F5, F6) -----------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Dataset]) -> Path:
    return saved(fit("vae", data["vector"])[0], tmp_path_factory.mktemp("artefact") / "1")


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(sound, tmp_path / "1"))


@pytest.mark.parametrize("name", ["card.md", "checksums.json", "config.json", "metrics.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["flip", "truncate", "remove", "empty"])
def test_a_changed_file_is_refused_by_name(copy: Path, name: str, how: str) -> None:
    path = copy / name
    contents = bytearray(path.read_bytes())
    if how == "flip":
        contents[len(contents) // 2] ^= 1
        path.write_bytes(contents)
    elif how == "truncate":
        path.write_bytes(contents[:-3])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(ArtefactDamaged) as caught:
        load_model(copy)
    assert name in str(caught.value) or name == "checksums.json"


@pytest.mark.parametrize("name", ["weights.pkl", "model.pt", "setup.py", ".hidden"])
def test_a_file_that_does_not_belong_is_refused_by_name(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"x")
    with pytest.raises(ArtefactDamaged, match=name):
        load_model(copy)


def reseal(folder: Path) -> None:
    """Make the checksums right again, as an attacker would."""
    import hashlib

    names = ("card.md", "config.json", "metrics.json", "model.safetensors")
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "checksums.json").write_text(json.dumps(sums))


@pytest.mark.parametrize(
    "change",
    [
        {"family": "nobody"},
        {"family": 3},
        {"bits": 2**30},
        {"bits": "64"},
        {"bits": True},
        {"format": 2},
        {"params": []},
        {"params": {"hidden": 10**9}},
        {"input": {"kind": "vector", "dim": 10**12}},
        {"input": {"kind": "vector", "dim": 25}},
        {"input": {"kind": "smell"}},
        {"input": None},
        {"input": {"kind": "image", "height": 8, "width": 8, "channels": 2}},
        {"input": {"kind": "text", "vocabulary": ["a", "a"]}},
        {"fingerprint": "0" * 64},
        {"fingerprint": None},
    ],
    ids=str,
)
def test_a_config_that_lies_is_refused_before_anything_is_allocated(copy: Path, change: dict[str, Any]) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | change))
    reseal(copy)
    with pytest.raises(ArtefactDamaged):
        load_model(copy)


def test_weights_that_are_not_finite_or_of_another_shape_are_refused(copy: Path) -> None:
    from safetensors.torch import load, save

    path = copy / "model.safetensors"
    sound = load(path.read_bytes())
    name = next(name for name, tensor in sorted(sound.items()) if tensor.is_floating_point())
    changes = [
        sound | {name: torch.full_like(sound[name], float("nan"))},
        sound | {name: torch.zeros(3)},
        sound | {"extra": torch.zeros(3)},
        {key: value for key, value in sound.items() if key != name},
    ]
    for tensors in changes:
        path.write_bytes(save(tensors))
        reseal(copy)
        with pytest.raises(ArtefactDamaged):
            load_model(copy)
    path.write_bytes(b"\xff" * 8 + b"{}")
    reseal(copy)
    with pytest.raises(ArtefactDamaged):
        load_model(copy)


# -- registry ----------------------------------------------------------------------------------------------------


def test_references_versions_and_aliases(tmp_path: Path, data: dict[str, Dataset]) -> None:
    registry = Registry(tmp_path)
    marks = []
    for seed in range(3):
        model = build("lsh", INPUTS["vector"].fit(data["vector"].items[: 100 + seed]), 32, {})
        list(Trainer(model, TrainConfig(seed=seed)).fit(data["vector"].items))
        draft = registry.draft("hash")
        save_artefact(model, draft, metrics={}, training={}, title="hash")
        entry = registry.add("hash", draft)
        marks.append(entry.fingerprint)
        assert entry.version == seed + 1
    assert registry.get("hash").version == 3
    registry.alias("hash:2", "champion")
    assert registry.get("hash").version == 2
    assert registry.get("hash@champion").aliases == ["champion"]
    assert registry.get("hash:3").aliases == []
    assert [entry.version for entry in registry.list()] == [3, 2, 1]
    assert registry.by_fingerprint(marks[0]).reference == "hash:1"
    registry.delete("hash:3")
    registry.delete("hash@champion")
    again = Registry(tmp_path)
    assert [entry.version for entry in again.list()] == [1]
    assert again.get("hash").version == 1, "an alias goes with its version"
    draft = again.draft("hash")
    save_artefact(registry.load(again.get("hash")), draft, metrics={}, training={}, title="hash")
    assert again.add("hash", draft).version == 4, "the number of a deleted version is not given again"
    for unknown in ("hash:9", "hash@nobody", "nobody", "hash:0", "HASH", "../hash", "hash:1:2", "", "a" * 9999):
        with pytest.raises(UnknownModel):
            again.get(unknown)
    with pytest.raises(InvalidParams):
        again.alias("hash:1", "Not An Alias")


def test_a_shared_registry_sees_what_others_change(
    tmp_path: Path, data: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As replicas do: each with a registry of its own over one folder."""
    monkeypatch.setattr("models.registry._SEEN_S", 0.0)
    model, *_ = fit("lsh", data["vector"])
    one, two = (Registry(tmp_path, shared=True) for _ in range(2))

    def add(registry: Registry, name: str) -> int:
        draft = registry.draft(name)
        save_artefact(model, draft, metrics={}, training={}, title=name)
        return registry.add(name, draft).version

    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda n: add((one, two)[n % 2], "hash"), range(8)))
    assert sorted(versions) == list(range(1, 9)), "no number is given twice"
    assert [entry.version for entry in one.list()] == [entry.version for entry in two.list()] == sorted(versions)[::-1]
    one.alias("hash:2", "champion")
    two.alias("hash:3", "other")
    assert one.get("hash@other").version == 3
    assert two.get("hash").version == 2
    two.load(two.get("hash:8"))
    one.delete("hash:8")
    assert two.get("hash:7").version == 7
    with pytest.raises(UnknownModel):
        two.get("hash:8")
    (tmp_path / "hash" / ".new-a-draft-of-another").mkdir()
    Registry(tmp_path, shared=True)
    assert (tmp_path / "hash" / ".new-a-draft-of-another").exists(), "what another process is making is left alone"


def test_a_damaged_version_is_named_and_the_others_are_served(tmp_path: Path, data: dict[str, Dataset]) -> None:
    registry = Registry(tmp_path)
    model, *_ = fit("lsh", data["vector"])
    for name in ("good", "bad"):
        draft = registry.draft(name)
        save_artefact(model, draft, metrics={}, training={}, title=name)
        registry.add(name, draft)
    (tmp_path / "bad" / "1" / "weights.pkl").write_bytes(b"x")
    (tmp_path / "good" / ".new-left-by-a-crash").mkdir()
    again = Registry(tmp_path)
    assert [entry.reference for entry in again.list()] == ["good:1"]
    assert "weights.pkl" in again.damaged["bad:1"]
    with pytest.raises(UnknownModel, match=r"weights\.pkl"):
        again.get("bad")
    assert not (tmp_path / "good" / ".new-left-by-a-crash").exists()
