"""A trained model as a folder, and back.

    config.json         family, bits, parameters, input, and how it was trained
    model.safetensors   every weight and every fitted number of the preprocessing
    metrics.json        what was measured at the end of training
    card.md             the same for people, with a YAML head
    codes.json          what the codes of the training set were like, for who compares later ones with it; may be absent
    checksums.json      SHA-256 of the others

The folder is written under a temporary name, synced and renamed, so it is there whole or not at all. Reading verifies
every checksum, allows no other file, and executes nothing: no pickle is ever written or read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .base import BIT_RULE, MAX_BITS, MIN_BITS, Model, build, families
from .capabilities import capabilities
from .errors import ArtefactDamaged, InvalidParams
from .specs import input_from_config, spec_of

FORMAT = 1
_FILES = ("config.json", "model.safetensors", "metrics.json", "card.md")
_CODES = "codes.json"
_CHECKSUMS = "checksums.json"
_CHOSEN = "bits_chosen"
"""Of the metrics: what the width was chosen by, where the user left that to the program."""
FILES = (*_FILES, _CODES, _CHECKSUMS)
"""Every file that may be in the folder of a model."""


@dataclass(frozen=True)
class Artefact:
    """What a folder says of its model without loading the weights."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    card: str
    fingerprint: str
    codes: Mapping[str, Any] | None = None
    """What the codes of the training set were like; None of a model saved without it."""


def fingerprint(model: Model) -> str:
    """SHA-256 over weights, canonical configuration, preprocessing and bit rule, as 64 hexadecimal digits.

    Two models with one fingerprint give every item the same code. Preprocessing is part of the state and of the
    input's configuration.
    """
    identity = {**_identity(model), "bit_rule": BIT_RULE}
    hasher = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hasher.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.dim() else tensor.numpy().tobytes())
    return hasher.hexdigest()


def _identity(model: Model) -> dict[str, Any]:
    return {
        "family": model.family,
        "bits": model.bits,
        "params": model.params.model_dump() if model.stated is None else dict(model.stated),
        "input": model.input.config(),
    }


def save_artefact(
    model: Model,
    folder: Path,
    *,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
    title: str,
    codes: Mapping[str, Any] | None = None,
) -> str:
    """Write `model` to the new folder `folder`, all or nothing. Returns its fingerprint.

    codes: what the codes of the training set are like, kept as it is.
    """
    mark = fingerprint(model)
    config = {
        "format": FORMAT,
        **_identity(model),
        "bit_rule": BIT_RULE,
        "fingerprint": mark,
        "training": dict(training),
    }
    contents = {
        "config.json": _json(config),
        "model.safetensors": save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}),
        "metrics.json": _json(dict(metrics)),
        "card.md": _card(model, title, mark, metrics, training).encode(),
    }
    if codes is not None:
        contents[_CODES] = _json(codes)
    contents[_CHECKSUMS] = _json({name: hashlib.sha256(data).hexdigest() for name, data in contents.items()})
    draft = folder.with_name(f".new-{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        for name, data in contents.items():
            with (draft / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(draft)
        os.rename(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(folder.parent)
    return mark


def read_artefact(folder: Path) -> Artefact:
    """Verify the folder and read all but the weights. Raises `ArtefactDamaged` naming the file at fault."""
    contents = _verified(folder)
    config = _object(folder, "config.json", contents["config.json"])
    if config.get("format") != FORMAT:
        raise ArtefactDamaged(f"{folder}: config.json has format {config.get('format')!r}, this program reads {FORMAT}")
    mark = config.get("fingerprint")
    if not isinstance(mark, str):
        raise ArtefactDamaged(f"{folder}: config.json has no fingerprint")
    if config.get("family") not in families():
        raise ArtefactDamaged(f"{folder}: family {config.get('family')!r} is not one that this program knows")
    bits = config.get("bits")
    if type(bits) is not int or bits % 8 or not MIN_BITS <= bits <= MAX_BITS:
        raise ArtefactDamaged(f"{folder}: bits must be a multiple of 8 from {MIN_BITS} to {MAX_BITS}; it is {bits!r}")
    if not isinstance(config.get("params"), dict) or not isinstance(config.get("input"), dict):
        raise ArtefactDamaged(f"{folder}: config.json is not the config of a model")
    try:
        spec_of(config["input"])
    except ArtefactDamaged as error:
        raise ArtefactDamaged(f"{folder}: {error}") from None
    metrics = _object(folder, "metrics.json", contents["metrics.json"])
    codes = _object(folder, _CODES, contents[_CODES]) if _CODES in contents else None
    return Artefact(folder, config, metrics, contents["card.md"].decode(), mark, codes)


@torch.inference_mode(False)  # whoever asks first: tensors made in inference mode would stay without versions
def load_model(folder: Path) -> Model:
    """The model saved in `folder`, ready to encode. Raises `ArtefactDamaged`, `EmbeddingUnavailable`."""
    artefact = read_artefact(folder)
    config = artefact.config
    try:
        tensors = load((folder / "model.safetensors").read_bytes())
        family, params = config["family"], config["params"]
        params = families()[family].as_saved(params) if family in families() else params
        model = build(family, input_from_config(config["input"]), config["bits"], params)
        model.load_state_dict(tensors)
        model.stated = config["params"]
    except (SafetensorError, InvalidParams, RuntimeError) as error:  # RuntimeError: names or shapes differ
        raise ArtefactDamaged(f"{folder}: {error}") from None
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ArtefactDamaged(f"{folder}: {bad[0]} holds numbers that are not finite")
    if fingerprint(model) != artefact.fingerprint:
        raise ArtefactDamaged(f"{folder}: the weights do not have the fingerprint that config.json states")
    return model.eval()


def sync_folder(folder: Path) -> None:
    """Make creations and renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verified(folder: Path) -> dict[str, bytes]:
    try:
        sums = _object(folder, _CHECKSUMS, (folder / _CHECKSUMS).read_bytes())
        files = (*_FILES, _CODES) if _CODES in sums else _FILES
        extra = sorted({path.name for path in folder.iterdir()} - {*files, _CHECKSUMS})
        if extra:
            raise ArtefactDamaged(f"{folder}: {extra[0]} does not belong to a model; remove it")
        contents = {name: (folder / name).read_bytes() for name in files}
    except OSError as error:
        raise ArtefactDamaged(f"{folder}: {error.strerror}: {error.filename}") from None
    for name, data in contents.items():
        if hashlib.sha256(data).hexdigest() != sums.get(name):
            raise ArtefactDamaged(f"{folder}: {name} is not what was saved; restore the model or train it again")
    return contents


def _object(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ArtefactDamaged(f"{folder}: {name}: {error}") from None
    if not isinstance(value, dict):
        raise ArtefactDamaged(f"{folder}: {name} is not a JSON object")
    return value


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


def _told(metrics: Mapping[str, Any]) -> str:
    """What must be known to read the figures, and why it has so many bits."""
    out = ""
    if "supervised" in metrics:
        out += (
            f"Learned from {metrics['supervised']} of {metrics['labelled']} items: its figures are not to be held "
            "against those of models that saw none.\n\n"
        )
    if _CHOSEN in metrics:
        out += f"The width was chosen: {metrics[_CHOSEN]['why']}\n\n"
    return out


def _card(model: Model, title: str, mark: str, metrics: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    head = {
        "library_name": "hammingbird",
        "tags": ["semantic-hashing", model.family, model.input.kind],
        "fingerprint": mark,
        "bits": model.bits,
        "metrics": dict(metrics),
    }
    yaml = "\n".join(f"{name}: {json.dumps(value)}" for name, value in head.items())  # JSON is YAML
    can = ", ".join(sorted(capabilities(type(model), type(model.input))))
    summary = (type(model).__doc__ or "").strip()
    rows = "\n".join(f"| {name} | {value} |" for name, value in metrics.items() if name != _CHOSEN)
    return (
        f"---\n{yaml}\n---\n# {title}\n\n{model.family}, {model.bits} bits, {model.input.kind} input. {summary}\n\n"
        f"{_told(metrics)}"
        f"Can: {can}.\n\n| measured | value |\n|---|---|\n{rows}\n\n"
        f"Trained with `{json.dumps(dict(training), sort_keys=True)}`.\n"
    )
