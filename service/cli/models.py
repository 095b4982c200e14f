"""hammingbird models"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from .base import DEFAULT_DATA_DIR, DataDir, app, console, friendly, open_engine, print_json, say_damaged


@app.command()
@friendly
def models(
    families: Annotated[bool, typer.Option("--families", help="List what can be trained instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List the trained models, or the families. Example: hammingbird models --families"""
    from ..routes.models import families as list_families
    from ..routes.models import model_card

    if families:
        found = list_families().families
        if as_json:
            print_json([family.model_dump() for family in found])
            return
        table = Table("family", "can", "parameters", "what it is")
        for family in found:
            table.add_row(
                family.name, ", ".join(family.capabilities), ", ".join(family.params["properties"]), family.summary
            )
        console.print(table)
        return
    with open_engine(data_dir, there=True) as engine:
        cards = [model_card(entry) for entry in engine.registry.list()]
        for name, detail in engine.registry.damaged.items():
            say_damaged(name, detail)
    if as_json:
        print_json([card.model_dump() for card in cards])
        return
    table = Table("model", "aliases", "family", "bits", "input", "retrieval", "fingerprint")
    for card in cards:
        table.add_row(
            f"{card.name}:{card.version}",
            ", ".join(card.aliases),
            card.family,
            str(card.bits),
            card.input["kind"],
            f"{card.metrics.get('retrieval', float('nan')):.3f}",
            card.fingerprint[:12],
        )
    console.print(table)
