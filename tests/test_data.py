"""Data sets: the built-in ones, every file format, and what is refused by name."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.data import load, readable
from models.errors import DataError, InputTooLarge, InvalidInput
from models.images import contact_sheet, decode_image, encode_png, fit_image
from models.sounds import Sound, as_written, encode_wav

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 6, 7)).astype(np.uint8)
VECTORS = RNG.normal(size=(5, 3)).astype(np.float32)


def test_digits_are_the_real_ones() -> None:
    data = load("digits")
    assert (data.kind, len(data)) == ("image", 1797)
    assert data.items.shape == (1797, 8, 8, 1)
    assert (data.items.min(), data.items.max()) == (0, 255)
    assert data.labels is not None
    assert data.labels[:10] == [str(label) for label in range(10)]
    assert data.ids[0] == "digit-0000"


def test_python_docs_are_those_of_the_running_python() -> None:
    data = load("python-docs")
    assert data.kind == "text"
    assert len(data) > 3000
    assert len(set(data.ids)) == len(data)
    assert {"builtins.open", "json.dumps", "os.path", "topic.while"} & set(data.ids) >= {"builtins.open", "json.dumps"}
    place = data.ids.index("json.dumps")
    assert "Serialize" in data.items[place]
    assert data.payload(place)["label"] == "json"  # type: ignore[index]


def write_idx(path: Path, array: np.ndarray, packed: bool) -> None:  # type: ignore[type-arg]
    data = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path: Path, suffix: str) -> None:
    images, labels = tmp_path / f"t-images-idx3-ubyte{suffix}", tmp_path / f"t-labels-idx1-ubyte{suffix}"
    write_idx(images, IMAGES, bool(suffix))
    assert load(str(images)).labels is None
    write_idx(labels, np.arange(5, dtype=np.uint8), bool(suffix))
    data = load(str(images))
    assert np.array_equal(data.items[:, :, :, 0], IMAGES)
    assert data.labels == ["0", "1", "2", "3", "4"]
    write_idx(labels, np.arange(4, dtype=np.uint8), bool(suffix))
    with pytest.raises(DataError, match="5 images but 4 labels"):
        load(str(images))


def test_npy_and_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS.astype(np.float64))
    data = load(str(tmp_path / "v.npy"))
    assert (data.kind, data.items.dtype) == ("vector", np.float32)
    assert data.ids == ["000000", "000001", "000002", "000003", "000004"]
    np.save(tmp_path / "i.npy", IMAGES)
    assert load(str(tmp_path / "i.npy")).items[0].shape == (6, 7, 1)
    np.savez(tmp_path / "a.npz", words=np.array(list("abcde")), vectors=VECTORS, y=np.arange(5))
    data = load(str(tmp_path / "a.npz"))
    assert (data.kind, data.ids, data.labels) == ("vector", list("abcde"), ["0", "1", "2", "3", "4"])
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"o\.npy"):
        load(str(tmp_path / "o.npy"))
    np.save(tmp_path / "four.npy", np.zeros((2, 3, 4, 5), np.float32))
    with pytest.raises(DataError, match="neither vectors"):
        load(str(tmp_path / "four.npy"))


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"id": f"i{n}", "text": f"text {n}", "label": n % 2, "payload": {"n": n}} for n in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    data = load(str(path))
    assert (data.kind, data.ids[1], data.labels) == ("text", "i1", ["0", "1", "0", "1"])
    assert data.payload(3) == {"n": 3, "label": "1"}
    path.write_text('{"text": "a", "topic": "t", "payload": {"n": 1}}')
    assert load(str(path)).payload(0) == {"topic": "t", "n": 1}
    path.write_text('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}')
    with pytest.raises(DataError, match="'a' more than once"):
        load(str(path))
    path.write_text("\n".join(json.dumps({"vector": [n, 2.5]}) for n in range(3)))
    assert load(str(path)).items.tolist() == [[0, 2.5], [1, 2.5], [2, 2.5]]
    (tmp_path / "p.png").write_bytes(encode_png(IMAGES[0][:, :, None]))
    path.write_text(json.dumps({"image": "p.png"}))
    assert np.array_equal(load(str(path)).items[0][:, :, 0], IMAGES[0])
    sound = Sound(as_written(RNG.normal(size=90) / 9), 8_000)
    (tmp_path / "s.wav").write_bytes(encode_wav(sound))
    path.write_text(json.dumps({"audio": "s.wav", "label": "hum"}))
    data = load(str(path))
    assert (data.kind, data.labels, data.describe()) == ("audio", ["hum"], "x.jsonl: 1 sounds, 1 labels (hum)")
    assert np.array_equal(data.items[0].samples, sound.samples)
    for bad, why in (("{", "line 1"), ('{"text": "a"}\n{"vector": [1]}', "same one of"), ("", "no items")):
        path.write_text(bad)
        with pytest.raises(DataError, match=why):
            load(str(path))
    path.write_text('{"vector": [1]}\n{"vector": [1, 2]}')
    with pytest.raises(DataError, match="differ in length"):
        load(str(path))


def test_a_folder_of_sounds(tmp_path: Path) -> None:
    sound = Sound(as_written(RNG.normal(size=90) / 9), 8_000)
    for name in ("a/1.wav", "b/2.WAV", "b/3.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode_wav(sound))
    (tmp_path / "a" / "notes.txt").write_text("left out: the folder is one of sounds")
    data = load(str(tmp_path))
    assert (data.kind, data.ids, data.labels) == ("audio", ["a/1.wav", "b/2.WAV", "b/3.flac"], ["a", "b", "b"])
    assert data.items[1].rate == 8_000
    assert len(data.items[1:]) == 2
    (tmp_path / "a" / "1.wav").write_bytes(b"RIFF")
    with pytest.raises(InvalidInput, match=r"a/1\.wav: the bytes are not"):
        data.items[0]
    (tmp_path / "top.wav").write_bytes(encode_wav(sound))
    assert load(str(tmp_path)).labels is None, "not every file lies in a folder of its own"


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('id,text,label,price\na,"some, text",x,3\nb,more text,y,4\n')
    data = load(str(path))
    assert (data.ids, data.items, data.labels) == (["a", "b"], ["some, text", "more text"], ["x", "y"])
    assert data.payload(0) == {"price": "3", "label": "x"}
    path.write_text("id,x,y\na,1,2\nb,3,4\n")
    assert load(str(path)).items.tolist() == [[1, 2], [3, 4]]
    path.write_text("".join(f"{n % 2},a longer text number {n}\n" for n in range(40)))
    data = load(str(path))
    assert data.labels == [str(n % 2) for n in range(40)]
    assert data.items[3] == "a longer text number 3"
    (tmp_path / "n.tsv").write_text("1\t2\t3\n4\t5\t6\n")
    assert load(str(tmp_path / "n.tsv")).items.shape == (2, 3)
    path.write_text("title,body,price\nx,some text,3\n")
    with pytest.raises(DataError, match="it has title, body, price"):
        load(str(path))
    path.write_text("1,2\n3\n")
    with pytest.raises(DataError, match="row 2 has 1 columns"):
        load(str(path))


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    def written(**columns: Any) -> str:
        parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
        return str(tmp_path / "t.parquet")

    rows = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), 3)
    data = load(written(id=list("abcde"), vector=rows, label=[1, 1, 2, None, 2], price=[0.5] * 5))
    assert (data.kind, data.ids, data.some_labels) == ("vector", list("abcde"), ["1", "1", "2", None, "2"])
    np.testing.assert_array_equal(data.items, VECTORS)
    assert data.payload(0) == {"price": 0.5, "label": "1"}
    data = load(written(vector=VECTORS[1:].tolist()))
    np.testing.assert_array_equal(data.items, VECTORS[1:])
    assert load(written(text=["one", "two"])).items == ["one", "two"]
    for columns, why in (
        ({"vector": [[1.0], [1.0, 2.0]]}, "differ in length"),
        ({"vector": [[1.0], None]}, "differ in length, or some are missing"),
        ({"text": ["a"], "vector": [[1.0]]}, "the same one of text, vector"),
        ({"text": []}, "holds no items"),
    ):
        with pytest.raises(DataError, match=why):
            load(written(**columns))
    (tmp_path / "t.parquet").write_bytes(b"not a table")
    with pytest.raises(DataError, match=r"t\.parquet cannot be read"):
        load(str(tmp_path / "t.parquet"))


def test_what_cannot_be_read_is_left_out_where_asked(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(encode_png(IMAGES[0][:, :, None]))
    (tmp_path / "b.png").write_bytes(b"no picture")
    data, bad = readable(load(str(tmp_path)))
    assert (list(data.ids), list(bad)) == (["a.png", "c.png"], ["b.png"])
    assert "not a PNG" in bad["b.png"]
    assert [item.shape for item in data.items] == [(6, 7, 1)] * 2
    np.savez(tmp_path / "v.npz", x=np.array([[1.0, 2.0], [np.nan, 1.0]]), ids=["p", "q"])
    data, bad = readable(load(str(tmp_path / "v.npz")))
    assert (list(data.ids), bad) == (["p"], {"q": "holds numbers that are not finite"})
    (tmp_path / "t.jsonl").write_text('{"text": " "}\n')
    with pytest.raises(DataError, match="no item can be read"):
        readable(load(str(tmp_path / "t.jsonl")))


def test_what_was_understood_is_said(tmp_path: Path) -> None:
    assert load("digits").describe() == "digits: 1,797 images, 10 labels (0, 1, 2, 3, 4, 5, 6, 7, ...)"
    np.save(tmp_path / "v.npy", VECTORS)
    assert load(str(tmp_path / "v.npy")).describe() == "v.npy: 5 vectors of 3 numbers, no labels"


def test_the_label_is_the_folder_that_a_file_lies_in(tmp_path: Path) -> None:
    for part in ("train/cat", "test/dog"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "1.txt").write_text("text")
    assert load(str(tmp_path)).labels == ["dog", "cat"]


def test_folders(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "p" / label).mkdir(parents=True)
        (tmp_path / "p" / label / "1.png").write_bytes(encode_png(IMAGES[0][:, :, None]))
        (tmp_path / "t" / label).mkdir(parents=True)
        (tmp_path / "t" / label / "1").write_bytes(b"caf\xe9 latin-1")
    (tmp_path / "p" / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "p" / "cat" / "2.PNG").write_bytes(b"broken")
    data = load(str(tmp_path / "p"))
    assert (data.kind, data.ids, data.labels) == (
        "image",
        ["cat/1.png", "cat/2.PNG", "dog/1.png"],
        ["cat", "cat", "dog"],
    )
    assert data.items[0].shape == (6, 7, 1)
    with pytest.raises(InvalidInput, match=r"2\.PNG"):
        data.items[1]
    texts = load(str(tmp_path / "t"))
    assert (texts.kind, texts.items[0], texts.labels) == ("text", "café latin-1", ["cat", "dog"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no items"):
        load(str(tmp_path / "empty"))


@pytest.mark.parametrize("name", ["x.pkl", "x.bin", "x"])
def test_files_nobody_can_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="no reader"):
        load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cut.npz", b"PK\x03\x04cut"),
        ("empty.npy", b""),
        ("bad.jsonl", b"\xff\xfe"),
        ("three.jsonl", b"3\n"),
        ("words.jsonl", b'{"vector": ["a"]}\n'),
        ("latin.csv", b"text,label\ncaf\xe9,x\n"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "x"}' * 100, mtime=0)[:40]),
        ("a-idx3-ubyte", b"\0\0\x08\x01" + b"\0\0\0\x02ab"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=name.split(".")[0]):
        load(str(tmp_path / name))


def test_a_long_text_is_cut_between_characters(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("a" + "é" * 300_000)
    assert set(load(str(tmp_path)).items[0]) == {"a", "é"}


# -- pictures (reliability.md M1, M2) ------------------------------------------------------------------------------


def test_pictures_of_every_mode_are_upright_and_without_transparency() -> None:
    from io import BytesIO

    from PIL import Image

    def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
        out = BytesIO()
        image.save(out, format=format, **options)
        return out.getvalue()

    grey = Image.fromarray(np.tile(np.arange(0, 250, 25, dtype=np.uint8), (4, 1)))
    assert decode_image(encoded(grey)).shape == (4, 10, 1)
    assert decode_image(encoded(grey.convert("1"))).shape == (4, 10, 1)
    sixteen = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
    assert decode_image(encoded(sixteen)).ravel().tolist() == [0, 1, 255]
    assert decode_image(encoded(grey.convert("P"))).shape == (4, 10, 3)
    assert decode_image(encoded(grey.convert("CMYK"), "JPEG")).shape == (4, 10, 3)
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert decode_image(encoded(clear)).ravel().tolist() == [255] * 12, "what is transparent is white"
    turned = Image.Exif()
    turned[0x0112] = 6
    assert decode_image(encoded(grey, "JPEG", exif=turned)).shape == (10, 4, 1)
    assert decode_image(encoded(Image.new("L", (1, 1)))).shape == (1, 1, 1)
    assert decode_image(encoded(Image.new("L", (10_000, 1)))).shape == (1, 10_000, 1)


def test_pictures_beyond_the_budget_are_refused_before_they_are_decoded() -> None:
    import zlib

    def bomb(side: int) -> bytes:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
            + chunk(b"IEND", b"")
        )

    for side in (7000, 13_000, 65_535):
        with pytest.raises(InputTooLarge, match="limit"):
            decode_image(bomb(side))
    with pytest.raises(InvalidInput, match="broken"):
        decode_image(bomb(100))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"GIF89a" + b"\0" * 50,
        b"<svg/>",
        b"%!PS-Adobe",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"II*\0" + b"\0" * 90,
    ],
)
def test_bytes_that_are_no_picture(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_image(data)


def test_resizing_keeps_what_fits_and_averages_what_shrinks() -> None:
    picture = IMAGES[0][:, :, None]
    assert fit_image(picture, 6, 7, 1) is picture
    assert np.array_equal(fit_image(picture, 6, 7, 3), np.repeat(picture, 3, axis=2))
    checks = np.indices((64, 64)).sum(0)[:, :, None] % 2 * 255
    small = fit_image(checks.astype(np.uint8), 8, 8, 1)
    assert np.abs(small.astype(int) - 127).max() < 20


def test_contact_sheets_are_nearly_square() -> None:
    assert contact_sheet([IMAGES[0][:, :, None]] * 5, tile=7, gap=1).shape == (2 * 7 + 1, 3 * 8 + 1, 1)
