"""hammingbird collections reencode, rollback, calibrate, duplicates"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from .base import DEFAULT_DATA_DIR, AsJson, DataDir, friendly, print_json, print_line
from .collections import Name, collections, reference_of
from .completion import a_model
from .jobs import followed
from .places import Url, opened

_SHOWN = 20
"""Groups, and ids of a group, in the plain output."""


@collections.command()
@friendly
def reencode(
    ctx: typer.Context,
    name: Name,
    model: Annotated[
        str, typer.Option(help="The model whose codes are to serve, of the same kind of input.", autocompletion=a_model)
    ],
    gate: Annotated[bool, typer.Option(help="Let its codes serve only where they are about as good.")] = True,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Go over to another model, while it goes on serving.

    Example: hammingbird collections reencode photos --model photos-hash:2

    The kept inputs are encoded anew, searches are tried on both, and the change is made at once; the codes before are
    kept for `rollback`. Stopped by Ctrl-C, it leaves the collection as it was.
    """
    body: dict[str, Any] = {"model": model} | ({} if gate else {"gate": None})
    with opened(ctx, url, data_dir) as service:
        result = followed(service, f"re-encoding {name}", service.begin("reencode", body, name))
        one = service.collection(name)
    if as_json:
        print_json(result)
    else:
        print_line(f"{name} is served by {reference_of(one['model'])}")


@collections.command()
@friendly
def rollback(
    ctx: typer.Context, name: Name, as_json: AsJson = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR
) -> None:
    """Go back to the model before, at once, with all that was written since.

    Example: hammingbird collections rollback photos
    """
    with opened(ctx, url, data_dir) as service:
        one = service.rollback(name)
    if as_json:
        print_json(one)
    else:
        print_line(f"{name} is served by {reference_of(one['model'])}")


@collections.command()
@friendly
def calibrate(
    ctx: typer.Context,
    name: Name,
    by: Annotated[
        Literal["labels", "augmentation"],
        typer.Option(
            help="labels: equal ones belong together; augmentation: an item belongs to itself, changed a bit."
        ),
    ] = "labels",
    field: Annotated[str | None, typer.Option(help="The payload field of the labels. Default: label")] = None,
    queries: Annotated[int, typer.Option(help="Stored items taken as queries.", min=10)] = 1000,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Measure what each radius means, so that `search --target-precision` can choose one.

    Example: hammingbird collections calibrate digits --by labels
    """
    body: dict[str, Any] = {"by": by, "queries": queries} | ({} if field is None else {"field": field})
    with opened(ctx, url, data_dir) as service:
        result = followed(service, f"calibrating {name}", service.begin("calibrate", body, name))
    if as_json:
        print_json(result)
        return
    for target, radius in result["radius_for"].items():
        within = "no radius is so precise" if radius is None else f"radius {radius}"
        print_line(f"precision {target}: {within}")


@collections.command()
@friendly
def duplicates(
    ctx: typer.Context,
    name: Name,
    radius: Annotated[int, typer.Option(help="Inclusive Hamming distance; 0 finds equal codes.", min=0)] = 3,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Find all groups of items within a radius of one another.

    Example: hammingbird collections duplicates photos --radius 3
    """
    with opened(ctx, url, data_dir) as service:
        result = followed(service, f"comparing {name}", service.begin("duplicates", {"radius": radius}, name))
    if as_json:
        print_json(result)
        return
    print_line(f"{result['groups_total']:,} groups with {result['items_in_groups']:,} of {result['items']:,} items")
    for group in result["groups"][:_SHOWN]:
        more = " ..." if group["size"] > _SHOWN else ""
        print_line(f"  {group['size']}: {', '.join(group['ids'][:_SHOWN])}{more}")
