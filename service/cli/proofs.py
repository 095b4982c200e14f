"""hammingbird evaluate --suite families: every system beside its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from .base import console, load_data, print_json, print_line, say
from .progress import bar, follow

if TYPE_CHECKING:
    from models.proofs.run import Outcome

_BUILT_IN = {"images": "digits", "texts": "python-docs", "sounds": "tones"}
_SHOWN = 12
_NEED_OF_KIND = {"image": "images", "text": "texts", "audio": "sounds"}


def prove(data: Sequence[str], only: Sequence[str], seeds: int, jobs: int, as_json: bool) -> bool:
    """Run the proofs of the families and print what they found; whether every threshold was met."""
    from models.proofs import base, run  # registers the proofs

    sources = {**_BUILT_IN, **_sources(data)}
    unknown = sorted(set(only) - set(base.PROOFS))
    if unknown:
        from models.errors import InvalidParams

        raise InvalidParams(f"there is no proof {unknown[0][:64]!r}; known are {', '.join(sorted(base.PROOFS))}")
    names = list(only) or sorted(base.PROOFS)
    seconds = sum(base.PROOFS[name].seconds for name in names) * seeds / jobs
    say(f"{len(names)} proofs, {seeds} seeds, {jobs} at a time: about {max(1, round(seconds / 60))} minutes")
    outcomes: list[Outcome] = []
    with bar("proofs", len(names) * seeds, "proofs") as show:
        for outcome in run.run(names, sources, seeds, jobs):
            outcomes.append(outcome)
            show(len(outcomes), f"{outcome.name} seed {outcome.seed}, {outcome.seconds:.0f} s")
            if outcome.error is not None:
                say(f"{outcome.name} seed {outcome.seed}: {outcome.error}")
    rows = [row for name in names for row in _rows(name, [one for one in outcomes if one.name == name])]
    if as_json:
        print_json({"sources": sources, "seeds": seeds, "rows": rows})
    else:
        _show(rows, seeds)
    return all(row["met"] in (None, row["seeds"]) for row in rows) and not any(one.error for one in outcomes)


def _sources(data: Sequence[str]) -> dict[str, str]:
    from models.data import load
    from models.errors import DataError

    found: dict[str, str] = {}
    for source in data:
        kind = load(source).kind
        need = _NEED_OF_KIND.get(kind)
        if need is None or need in found:
            raise DataError(
                f"{source!r} holds {kind} items; the proofs take one set of images, one of texts and one of sounds"
            )
        found[need] = source
    return found


def _rows(name: str, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row a finding, over all seeds, in the order in which the proof found them."""
    from models.proofs.base import PROOFS

    proof = PROOFS[name]
    # One number may have to lie between two thresholds: what is measured and the side it is bounded on make a row.
    rows = []
    for what, at in dict.fromkeys((finding.what, finding.at) for outcome in outcomes for finding in outcome.findings):
        found = [one for outcome in outcomes for one in outcome.findings if (one.what, one.at) == (what, at)]
        values = [finding.value for finding in found]
        met = [finding.met for finding in found]
        rows.append(
            {
                "proof": name,
                "system": proof.system,
                "title": proof.title,
                "what": what,
                "value": float(np.mean(values)),
                "deviation": float(np.std(values)) if len(values) > 1 else None,
                "threshold": found[0].threshold,
                "at": found[0].at,
                "published": found[0].published,
                "met": None if found[0].threshold is None else sum(one is True for one in met),
                "seeds": len(found),
                "seconds": float(np.mean([outcome.seconds for outcome in outcomes])),
            }
        )
    return rows


def _show(rows: Sequence[dict[str, Any]], seeds: int) -> None:
    table = Table("proof", "measured", "value", "+-", "asked", "published", "met", "seconds", title="Proof table")
    before = None
    for row in rows:
        sign = "<=" if row["at"] == "most" else ">="
        table.add_row(
            row["proof"] if row["proof"] != before else "",
            row["what"],
            f"{row['value']:.4g}",
            "" if row["deviation"] is None else f"{row['deviation']:.2g}",
            "" if row["threshold"] is None else f"{sign} {row['threshold']:.4g}",
            row["published"],
            "" if row["met"] is None else f"{row['met']} of {row['seeds']}",
            f"{row['seconds']:.0f}" if row["proof"] != before else "",
        )
        before = row["proof"]
    console.print(table)


def draw(data: str, families: Sequence[str], out: Path, seed: int) -> None:
    """Train each family on the images or sounds of `data` and write what it makes of held-out ones: a picture
    `<out>/<family>.png`, or sounds `<out>/<family>/<what>-<number>.wav`.
    """
    from models.base import build
    from models.base import families as known
    from models.data import part
    from models.errors import DataError
    from models.images import encode_png
    from models.inputs import INPUTS
    from models.sheets import sheet, sounds
    from models.sounds import encode_wav
    from models.train import TrainConfig, Trainer

    items = load_data(data)
    if items.kind not in ("image", "audio"):
        raise DataError(f"{data!r} holds {items.kind} items; sheets are made of images or sounds")
    order = np.random.default_rng(seed).permutation(len(items))
    shown, kept = part(items, order[:_SHOWN]), part(items, order[_SHOWN:])
    # A few hundred sounds need small batches to be seen often enough.
    batch_size = min(128, max(16, len(kept) // 32))
    for name in families or sorted(known()):
        model = build(name, INPUTS[items.kind].fit(kept.items), 64, {}, seed=seed)
        trainer = Trainer(model, TrainConfig(seed=seed, batch_size=batch_size))
        follow(f"training {name}", trainer.fit(kept.items, kept.labels))
        if items.kind == "image":
            files = {out / f"{name}.png": encode_png(sheet(model, shown.items, seed=seed))}
        else:
            files = {
                out / name / f"{what}-{place:02d}.wav": encode_wav(sound)
                for what, row in sounds(model, shown.items, seed=seed)
                for place, sound in enumerate(row)
            }
        for path, contents in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents)
        print_line(str(next(iter(files))))
