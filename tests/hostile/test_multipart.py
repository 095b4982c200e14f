"""Forms that are none, or too many in one. (reliability.md H7)"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support import assert_problem
from wire import Served

END = b"--x--\r\n"
KIND = "multipart/form-data; boundary=x"


def part(name: str, data: bytes, file: bytes | None = None, more: bytes = b"") -> bytes:
    filename = b"" if file is None else b'; filename="' + file + b'"'
    head = b'--x\r\ncontent-disposition: form-data; name="' + name.encode() + b'"' + filename + b"\r\n"
    return head + more + b"\r\n" + data + b"\r\n"


COLLECTION = part("collection", b"codes")
TEXTS = part("collection", b"python-docs")


@pytest.fixture
def forms(served: Served) -> tuple[Served, Path]:
    """The service, and where its temporary files can be seen."""
    return served, served.root.parent / "temporary"


def refused(
    forms: tuple[Served, Path], body: bytes, kind: str = KIND, status: tuple[int, ...] = (400, 413, 422)
) -> str:
    """What is said of `body`, which stores nothing and leaves no file, no descriptor and not much memory behind."""
    served, temporary = forms
    names = ("python-docs", "digits", "vectors")
    before = [served.get(f"/collections/{name}").json()["items"] for name in names]
    memory, files = served.rss(), served.descriptors()
    reply = served.send("POST", "/ingest", body, kind)
    assert reply.status_code in status, reply.text
    problem = assert_problem(reply, reply.status_code)
    assert len(reply.content) < 8_000
    assert [served.get(f"/collections/{name}").json()["items"] for name in names] == before
    settled(served, temporary, files)
    assert served.rss() - memory < 120_000_000
    return str(problem["detail"])


def settled(served: Served, temporary: Path, files: int) -> None:
    """No temporary file is left, named or only open, once the connection is gone."""
    for _ in range(40):
        if served.descriptors() <= files and not list(temporary.iterdir()):
            return
        time.sleep(0.05)
    open_files = [os.readlink(entry) for entry in Path(f"/proc/{served.pid}/fd").iterdir()]
    raise AssertionError((files, open_files, list(temporary.iterdir())))


def test_ten_thousand_parts(forms: tuple[Served, Path]) -> None:
    """H7: fields beyond ten, files beyond `max_items`."""
    assert "Too many fields" in refused(forms, COLLECTION + part("f", b"x") * 10_000 + END)
    assert "Too many files" in refused(forms, TEXTS + part("files", b"open a file", b"t") * 10_001 + END)
    assert refused(forms, TEXTS + part("other", b"x", b"t") * 10_001 + END)


def test_no_boundary_and_wrong_ones(forms: tuple[Served, Path]) -> None:
    """H7"""
    good = TEXTS + part("files", b"open a file", b"t")
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=y",
        f"multipart/form-data; boundary={'x' * 5_000}",
        "multipart/form-data; boundary=\xe9",
        "multipart/form-data; charset=utf-16; boundary=y",
    ):
        refused(forms, good + END, kind.encode().decode("latin-1"))


def test_a_hundred_thousand_headers_in_a_part(forms: tuple[Served, Path]) -> None:
    """H7: many, long, folded, without a name, without an end."""
    for more in (
        b"".join(b"x-%d: y\r\n" % place for place in range(100_000)),
        b"x-long: " + b"y" * 5_000_000 + b"\r\n",
        b"x-folded: a\r\n b\r\n" * 10_000,
        b": y\r\n",
        b"x" * 1_000_000,
    ):
        refused(forms, TEXTS + part("files", b"open a file", b"t", more) + END)


def test_parts_that_stop_in_the_middle(forms: tuple[Served, Path]) -> None:
    """H7: cut at every place that matters, in a file that has gone to the disk too."""
    large = TEXTS + part("files", b"a" * 3_000_000, b"large.txt") + part("files", b"b" * 2_000_000, b"more.txt")
    for body in (
        TEXTS[:10],
        TEXTS[:-4],
        TEXTS + b"--x\r\n",
        TEXTS + b"--x\r\ncontent-disposition: form-data",
        TEXTS + b"--x\r\ncontent-disposition: form-data; name=files\r\n\r\n",
        TEXTS + b"--x\r\n\r\nno headers\r\n" + END,
        TEXTS + b"--x\r\ncontent-disposition: attachment\r\n\r\nno name\r\n" + END,
        large[:-1_000_000],
        large + b"--x\r\n" + b"x-bad\r\n\r\n",
    ):
        refused(forms, body)
    served, temporary = forms
    files = served.descriptors()
    head = b"POST /ingest HTTP/1.1\r\nhost: x\r\ncontent-type: %b\r\ncontent-length: 9000000\r\n\r\n" % KIND.encode()
    for _ in range(5):
        served.raw(head + large, wait_s=0.2)  # and then the client is gone
    settled(served, temporary, files)


def test_a_field_that_is_no_field(forms: tuple[Served, Path]) -> None:
    """H7: a megabyte where a name is meant, a file where text is meant, two of them."""
    refused(forms, part("collection", b"c" * 2_000_000) + part("files", b"x", b"t") + END)
    refused(forms, part("collection", b"python-docs", b"file") + part("files", b"x", b"t") + END)
    refused(
        forms,
        part("collection", b"python-docs") + part("model", b"docs-hash", b"file") + part("files", b"x", b"t") + END,
    )
    refused(forms, part("collection", b"") + part("files", b"x", b"t") + END, status=(404, 422))
    refused(forms, part("collection", b"../../etc") + part("files", b"x", b"t") + END, status=(404, 422))
    refused(forms, TEXTS + part("files", b"not a file") + END)
    refused(forms, TEXTS + END)
    refused(forms, END)
    refused(forms, b"")


NAMES = [
    b"../../etc/passwd",
    b"..\\..\\boot.ini",
    b"/etc/passwd",
    b"C:\\x",
    b"CON",
    b"a/b",
    b".",
    b"..",
    b"%2e%2e%2f",
    b"a b",
    "é".encode(),
    b"x" * 500,
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_file_name_is_an_id_and_never_a_path(forms: tuple[Served, Path], name: bytes) -> None:
    """H7: whatever it says, the file is stored under it, and no file of that name is made."""
    served, temporary = forms
    before = sorted(path for path in temporary.parent.rglob("*") if path.is_file())
    files = served.descriptors()
    reply = served.send(
        "POST", "/ingest", TEXTS + part("files", b"open a file", name.replace(b"\\", b"\\\\")) + END, KIND
    )
    # Of a Windows path, which browsers once sent, the form's parser takes the last part.
    id = "x" if name == b"C:\\x" else name.decode()
    assert reply.json()["ids"] == [id]
    settled(served, temporary, files + 2)
    after = sorted(path for path in temporary.parent.rglob("*") if path.is_file())
    assert {path.name for path in after} <= {path.name for path in before} | {"items.db-wal", "items.db-shm"}
    deleted = served.post("/collections/python-docs/delete", {"ids": [id]})
    assert deleted.json() == {"deleted": 1}


@pytest.mark.parametrize("name", [b"a\0b", b"\0", b"", b"x" * 513, b"a\0.png", b"\xff\xfe"], ids=repr)
def test_file_names_that_are_no_id(forms: tuple[Served, Path], name: bytes) -> None:
    """H7: NUL, nothing, too long, no Unicode."""
    refused(forms, TEXTS + part("files", b"open a file", name) + END)


def test_files_of_no_size(forms: tuple[Served, Path]) -> None:
    """H7: one among good ones refuses the form, or is listed."""
    body = TEXTS + part("files", b"open a file", b"good.txt") + part("files", b"", b"empty.txt") + END
    assert "item 1" in refused(forms, body)
    served, _ = forms
    reply = served.send("POST", "/ingest?on_error=skip", body, KIND).json()
    assert reply["ids"] == ["good.txt"]
    assert [(fault["position"], fault["id"]) for fault in reply["errors"]] == [(1, "empty.txt")]
