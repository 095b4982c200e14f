"""`hammingbird backup` and `restore`: all of a data directory in one file, also while it is served. (D6, X1)"""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support import server
from typer.testing import CliRunner

from service.cli import app
from service.engine import Engine
from service.settings import Settings


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def as_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def ask(address: str, path: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"{address}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def held(root: Path) -> dict[str, Any]:
    """Every item of every collection, every model with its aliases, and that all of it is sound."""
    with Engine(Settings(data_dir=root)) as engine:
        found: dict[str, Any] = {}
        for name, collection in engine.catalogue.all().items():
            assert collection.check().faults == ()
            found[name] = (collection.config, list(collection.scan()))
        found["models"] = [(entry.reference, entry.aliases, entry.fingerprint) for entry in engine.registry.list()]
        assert not engine.catalogue.damaged
        assert not engine.registry.damaged
        return found


def test_everything_into_one_file_and_back(data_dir: Path, tmp_path: Path) -> None:
    with Engine(Settings(data_dir=data_dir)) as engine:
        engine.registry.alias("digits-vae:1", "champion")
    file = tmp_path / "all.tar"
    said = as_json("backup", "--to", file, "--data-dir", data_dir)
    assert said["collections"] == {"digits": 300, "python-docs": 400, "vectors": 300}
    assert len(said["models"]) == 5
    assert said["size"] == file.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.tar", "data"]
    restored = as_json("restore", file, "--data-dir", tmp_path / "elsewhere")
    assert restored["collections"] == said["collections"]
    assert all(model["added"] and model["model"] == model["was"] for model in restored["models"])
    assert held(tmp_path / "elsewhere") == held(data_dir)
    again = run("restore", file, "--data-dir", tmp_path / "elsewhere")
    assert again.exit_code == 1
    assert "already a collection" in again.output
    replaced = as_json("restore", file, "--replace", "--data-dir", tmp_path / "elsewhere")
    assert replaced["replaced"] == ["digits", "python-docs", "vectors"]
    assert not any(model["added"] for model in replaced["models"])
    assert held(tmp_path / "elsewhere") == held(data_dir)


def test_one_collection_into_a_folder_and_back_by_another_name(data_dir: Path, tmp_path: Path) -> None:
    said = as_json("backup", "vectors", "--to", tmp_path, "--data-dir", data_dir)
    file = Path(said["file"])
    assert file.name.startswith("vectors-2")
    assert said["models"] == ["vectors-itq:1"]
    assert as_json("restore", file, "--as", "copy", "--data-dir", data_dir)["collections"] == {"copy": 300}
    found = held(data_dir)
    assert found["copy"][1] == found["vectors"][1]


def test_what_cannot_be_done(data_dir: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("backup", "nobody", "--to", tmp_path), "there is no collection 'nobody'"),
        (("backup", "--to", tmp_path / "no" / "file"), "there is no folder"),
        (("backup", "--to", data_dir / "lock"), "is there already"),
        (("restore", tmp_path / "none.tar"), "cannot be read"),
        (("restore", tmp_path), "cannot be read"),
        (("restore", data_dir / "lock"), "the file ends"),
    ):
        result = run(*arguments, "--data-dir", data_dir)
        assert result.exit_code == 1, arguments
        assert said in " ".join(result.output.split()), arguments
    assert run("backup", "--to", tmp_path, "--data-dir", tmp_path / "nothing").exit_code == 1
    file = as_json("backup", "--to", tmp_path, "--data-dir", data_dir)["file"]
    result = run("restore", file, "--as", "x", "--data-dir", tmp_path / "new")
    assert "holds 3 collections" in result.output
    assert [path.name for path in tmp_path.glob(".new-*")] == []


def test_a_backup_while_it_is_served_and_after_a_kill(data_dir: Path, tmp_path: Path) -> None:
    """Reads beside the owner without its lock; what it copies is whole. D6: a restore needs the lock and says so."""
    with server(data_dir) as (address, process):
        ask(address, "/collections", {"name": "pairs", "bits": 64})
        stop = threading.Event()
        acknowledged = [0]

        def write() -> None:
            while not stop.is_set():
                number = acknowledged[0] + 1
                items = [{"id": id, "code": f"{number:016x}"} for id in ("a", "b", f"c{number}")]
                ask(address, "/ingest", {"collection": "pairs", "items": items})
                acknowledged[0] = number

        writer = threading.Thread(target=write)
        writer.start()
        counts = []
        for round_ in range(3):
            time.sleep(0.1)
            before = acknowledged[0]
            said = as_json("backup", "--to", tmp_path / f"{round_}.tar", "--data-dir", data_dir)
            assert before <= said["collections"]["pairs"] - 2 <= acknowledged[0] + 1
            counts.append(said["collections"])
        refused = run("restore", tmp_path / "0.tar", "--data-dir", data_dir)
        assert refused.exit_code == 1
        assert f"in use by process {process.pid}" in refused.output
        assert f"--url {address}" in refused.output
        stop.set()
        writer.join()
        last = acknowledged[0]
        process.send_signal(signal.SIGKILL)
        process.wait()
    said = as_json("backup", "--to", tmp_path / "killed.tar", "--data-dir", data_dir)
    assert said["collections"]["pairs"] == last + 2
    for name, count in zip(("0", "1", "2", "killed"), [*counts, said["collections"]], strict=True):
        root = tmp_path / f"from-{name}"
        as_json("restore", tmp_path / f"{name}.tar", "--data-dir", root)
        found = held(root)
        codes = {item.id: item.code for item in found["pairs"][1]}
        assert codes["a"] == codes["b"] == codes[f"c{count['pairs'] - 2}"]
        assert len(codes) == count["pairs"]
        shutil.rmtree(root)
    assert held(data_dir)["pairs"][1]


@pytest.mark.parametrize("part", ["collections/vectors/items.db", "models/vectors-itq/1/model.safetensors"])
def test_damage_is_not_backed_up(data_dir: Path, tmp_path: Path, part: str) -> None:
    """Promise 5"""
    path = data_dir / part
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0x55
    path.write_bytes(data)
    result = run("backup", "--to", tmp_path / "all.tar", "--data-dir", data_dir)
    if result.exit_code == 0:  # the byte is in a page that holds nothing: then what was copied is what there is
        assert part.endswith(".db")
        as_json("restore", tmp_path / "all.tar", "--data-dir", tmp_path / "new")
        assert held(tmp_path / "new")["vectors"] == held(data_dir)["vectors"]
        return
    assert "vectors" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
