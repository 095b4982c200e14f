"""hammingbird check"""

from __future__ import annotations

import typer

from .base import DEFAULT_DATA_DIR, FAILED, AsJson, DataDir, app, console, friendly, open_engine, print_json


@app.command()
@friendly
def check(
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Verify everything on disk; exit code 1 where something is wrong.

    Example: hammingbird check
    """
    from models.artefact import load_model
    from models.errors import ArtefactDamaged

    found: dict[str, list[str]] = {}
    with open_engine(data_dir, there=True) as engine:
        for name, collection in engine.catalogue.all().items():
            found[f"collection {name}"] = list(collection.check().faults)
        for entry in engine.registry.list():
            try:
                load_model(entry.artefact.folder)
                found[f"model {entry.reference}"] = []
            except ArtefactDamaged as error:
                found[f"model {entry.reference}"] = [str(error)]
        found |= {f"collection {name}": [detail] for name, detail in engine.catalogue.damaged.items()}
        found |= {f"model {name}": [detail] for name, detail in engine.registry.damaged.items()}
        unknown = list(engine.catalogue.unknown)
    if as_json:
        print_json({"checked": found, "unknown_files": unknown})
    else:
        for what, faults in found.items():
            console.print(
                f"{what}: {'sound' if not faults else '; '.join(faults)}", highlight=False, markup=False, soft_wrap=True
            )
        for name in unknown:
            console.print(f"unknown, left alone: collections/{name}", highlight=False, markup=False)
        bad = sum(map(bool, found.values()))
        console.print(f"{len(found)} checked, {bad} at fault" if bad else f"{len(found)} checked, all sound")
    if any(found.values()):
        raise typer.Exit(FAILED)
