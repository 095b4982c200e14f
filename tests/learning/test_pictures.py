"""The default hash on pictures with room for crops: it looks at them first, and learns from views of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import measure
from models.artefact import load_model, read_artefact, save_artefact
from models.base import Batch, Model, build
from models.data import load
from models.errors import InvalidParams
from models.inputs import ImageInput, VectorInput
from models.neighbours import table
from models.parts.dictionary import DictionaryEncoder, PatchDictionary
from models.parts.pictures import PictureViews, StridedEncoder
from models.train import TrainConfig, Trainer


def shapes(count: int, side: int = 20, *, sided: bool = True) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Grey pictures of three upright shapes, a little moved, of any brightness; `sided`: all face to the left."""
    draw = np.random.default_rng(0)
    items, labels = [], []
    for place in range(count):
        kind = place % 3
        at = 2 + draw.integers(0, 2)
        picture = np.zeros((side, side, 1), np.float32)
        picture[at : side - 3, at : at + 3] = 1  # a post
        if kind:
            picture[side - 7 if kind == 1 else at : side - 3 if kind == 1 else at + 4, at : side - 4] = (
                1  # a foot, a flag
            )
        picture *= draw.uniform(60, 200)
        picture += draw.normal(0, 6, picture.shape)
        if not sided and draw.random() < 0.5:
            picture = picture[:, ::-1]
        items.append(picture.clip(0, 255).astype(np.uint8))
        labels.append(str(kind))
    return items, labels


def fitted(items: list[NDArray[np.uint8]]) -> PictureViews:
    torch.manual_seed(0)
    out = PictureViews()
    out.fit(ImageInput.fit(items).rows(items))
    return out


def test_pictures_are_mirrored_only_where_mirror_images_look_like_pictures() -> None:
    sided, either = fitted(shapes(300)[0]), fitted(shapes(300, sided=False)[0])
    assert (sided.mirrored, sided.in_place) == (False, True)
    assert (either.mirrored, either.in_place) == (True, True)


def test_pictures_of_anything_anywhere_are_cropped_harder() -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), dtype=np.uint8))
    scenes, upright = fitted(noise), PictureViews()
    assert (scenes.mirrored, scenes.in_place) == (True, False)
    ramp = torch.linspace(0, 1, 16).expand(400, 1, 16, 16)
    assert _spread(scenes(ramp)) < _spread(upright(ramp)), "a harder crop of a ramp leaves less of it"


def _spread(x: Tensor) -> float:
    """How much is left of a ramp from left to right, light and noise apart."""
    return float(x.mean(2).std(2).mean())


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 20, 45)])
@pytest.mark.parametrize("kind", [StridedEncoder, DictionaryEncoder])
def test_the_encoders_take_pictures_of_any_shape(
    kind: type[StridedEncoder | DictionaryEncoder], shape: tuple[int, int, int]
) -> None:
    encoder = kind(shape, 24, 32)
    x = torch.rand(6, *shape)
    if isinstance(encoder, DictionaryEncoder):
        encoder.dictionary.fit(x)
    trained = encoder(x)
    assert trained.shape == (6, 24)
    assert trained.dtype == torch.float32
    trained.sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in encoder.parameters())
    alone, together = encoder.eval()(x[:1]), encoder(x)[:1]
    assert torch.allclose(alone, together, atol=1e-4)


def test_small_pictures_keep_dense_layers() -> None:
    digits = load("digits").items
    assert not isinstance(_default(digits).encoder, StridedEncoder)
    assert isinstance(_default(shapes(30, side=16)[0]).encoder, StridedEncoder)
    colour = [np.repeat(item, 3, axis=2) for item in shapes(30, side=16)[0]]
    assert isinstance(_default(colour).encoder, DictionaryEncoder)


def _default(items: list[NDArray[np.uint8]], bits: int = 16) -> Model:
    return build("binary-autoencoder", ImageInput.fit(items), bits, {})


def test_colour_pictures_are_described_by_a_dictionary_of_their_patches() -> None:
    torch.manual_seed(0)
    x = torch.rand(60, 3, 16, 16)
    x[:30] = x[:30, :, :, :1]  # half of them are of stripes across, half of grains
    dictionary = PatchDictionary(3, 16, 16)
    dictionary.fit(x)
    seen = dictionary(x)
    assert seen.shape == (60, dictionary.width)
    assert not seen.requires_grad
    assert float(seen.mean(0).abs().max()) < 1e-3
    assert float(seen.std(0).max()) < 1.1
    rows = torch.nn.functional.normalize(seen, dim=1)
    nearest = (rows @ rows.T).fill_diagonal_(-1).argmax(1)
    assert bool(((nearest < 30) == (torch.arange(60) < 30)).all())
    dimmed = torch.nn.functional.normalize(dictionary(0.5 * x), dim=1)
    assert float((dimmed * rows).sum(1).min()) > 0.98, "contrast does not count"


@pytest.mark.parametrize("at_once", [1, 9, 1 << 22])
def test_neighbours_count_where_both_agree(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Three are together, two are together, one looks to the three, which do not look back; in pieces of any size."""
    monkeypatch.setattr("models.neighbours._AT_ONCE", at_once)
    angle = np.array([0.0, 0.1, 0.2, 2.0, 2.1, 0.8])
    rows = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    for k, want in ((2, [{1, 2}, {0, 2}, {0, 1}, {4}, {3}, {5}]), (1, [{1}, {0}, {2}, {4}, {3}, {5}])):
        found = table(
            VectorInput.fit(rows).rows(rows),
            k,
            np.random.default_rng(0),
            features=lambda places: rows[places],
            mutual=True,
        )
        assert found.shape == (6, k)
        got = [set(row.tolist()) for row in found]
        assert got == want or (k == 1 and got[3:] == want[3:])


def test_the_partner_of_a_picture_is_itself_or_a_neighbour() -> None:
    """The contrast is there without neighbours, and what is decoded is what the second view was made of."""
    items, _ = shapes(40)
    model = _default(items).train()
    x = model.input.tensor(items)
    for batch in (Batch(x), Batch(x, x.roll(1, 0))):
        loss, terms = model.loss(batch, "autoencoder")
        assert set(terms) == {"reconstruction", "contrast"}
        assert torch.isfinite(loss)


@pytest.mark.parametrize("channels", [1, 3])
def test_codes_of_pictures_find_their_shapes_whatever_their_light(channels: int) -> None:
    items, labels = shapes(300)
    items = [np.repeat(item, channels, axis=2) for item in items]
    model = _default(items)
    for _ in Trainer(model, TrainConfig(epochs=15, device="cpu")).fit(items):
        pass
    names = np.array(labels, np.str_)
    codes = np.packbits(model.logits(items) > 0, axis=1)
    alone = np.arange(len(codes), dtype=np.int64)
    found = measure.precision_at_k(codes, codes, measure.same_label(names, names), 20, leave_out=alone)
    assert found > 0.9


def test_a_model_saved_before_there_were_convolutions_still_loads(tmp_path: Path) -> None:
    """Its config does not state which layers it has: they were dense."""
    items, _ = shapes(12)
    model = build("binary-autoencoder", ImageInput.fit(items), 8, {"hidden": 8, "encoder": "dense"})
    model.stated = {"hidden": 8, "neighbours": 10, "pairing": 0.5, "contrast": 0.3}
    save_artefact(model, tmp_path / "old", metrics={}, training={}, title="old")
    assert "encoder" not in read_artefact(tmp_path / "old").config["params"]
    assert np.array_equal(load_model(tmp_path / "old").logits(items), model.eval().logits(items))


def test_convolutions_are_refused_where_there_is_no_room_for_them() -> None:
    small = ImageInput.fit([np.zeros((8, 8, 1), np.uint8)])
    with pytest.raises(InvalidParams, match="16 x 16"):
        build("binary-autoencoder", small, 8, {"encoder": "convolution"})
