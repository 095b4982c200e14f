"""An ingest through two services over one server, one of which is killed in the middle: each item is stored once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from filling import fill
from milvus_server import MilvusServer
from support import MODELS, server, vectors


@pytest.mark.timeout(600)
def test_an_ingest_goes_on_when_a_replica_is_killed(tmp_path: Path, milvus: MilvusServer) -> None:
    fill(tmp_path / "trained", {"vectors": vectors()}, [one for one in MODELS if one[3] == "vectors"], ())
    data = vectors(6_000)
    np.savez(tmp_path / "v.npz", x=data.items, ids=np.array(data.ids))
    settings = {
        "HAMMINGBIRD_MILVUS_URI": milvus.uri,
        "HAMMINGBIRD_DEFAULT_BACKEND": "milvus",
        "HAMMINGBIRD_MODELS_DIR": str(tmp_path / "trained" / "models"),
    }
    with ExitStack() as stack:
        (first, _), (second, dying) = (
            stack.enter_context(server(tmp_path / name, **settings)) for name in ("first", "second")
        )
        options = ["--data", str(tmp_path / "v.npz"), "--collection", "bulk", "--model", "vectors-itq", "--json"]
        command = [sys.executable, "-m", "service", "ingest", *options, "--workers", "2", "--url", f"{first},{second}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = next(line for line in process.stderr if " 30%" in line)
            os.kill(dying.pid, signal.SIGKILL)
            out, rest = process.communicate(timeout=300)
        assert process.returncode == 0, said + rest
        reply = json.loads(out)
        assert "meanwhile the others take over" in rest
        assert second in rest
        assert sum(reply["replicas"].values()) == reply["created"] + reply["unchanged"] == 6_000
        assert min(reply["replicas"].values()) >= 500
        with urllib.request.urlopen(f"{first}/collections/bulk", timeout=30) as found:
            assert json.load(found)["items"] == 6_000
