"""Which codes belong in a collection: what is refused, and how that is said, wherever the collection is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import GenerationChanged, InputsMissing, ModelMismatch, NoSuchGeneration
from .records import ModelKey


def check_model(name: str, serving: ModelKey | None, fingerprint: str | None) -> None:
    """Raise `ModelMismatch` unless `fingerprint` is that of the model that serves (None: ready-made codes)."""
    if fingerprint is None or (serving is not None and fingerprint == serving.fingerprint):
        return
    if serving is None:
        raise ModelMismatch(f"collection {name!r} takes ready-made codes only; it has no model")
    raise ModelMismatch(
        f"collection {name!r} was filled by {serving.name}:{serving.version} (fingerprint "
        f"{serving.fingerprint[:12]}), this is fingerprint {fingerprint[:12]}; codes of two models cannot be "
        "compared, so use that model or a new collection"
    )


def placed(
    name: str,
    fingerprints: Sequence[str | None],
    codes: Mapping[str | None, Sequence[bytes]],
    *,
    stayed: bool = True,
) -> tuple[Sequence[bytes], Sequence[bytes] | None]:
    """Of `codes` by fingerprint: those of the generation that serves, and of the one beside it if there is one.

    fingerprints: of the present models, the one that serves first. stayed: whether that is the one which served when
    codes without a fingerprint were checked. Raises `GenerationChanged` where codes of a present model are not there,
    `InputsMissing` where they cannot be had.
    """
    if None in codes:
        if len(fingerprints) > 1:
            raise InputsMissing(
                f"collection {name!r} has codes of two models, so it takes no ready-made ones, which fit one "
                "of them; send the items themselves, or give the second model up (DELETE .../standby)"
            )
        if not stayed:
            raise GenerationChanged(f"collection {name!r} has gone over to another model; send this again")
        return codes[None], None
    if not all(fingerprint in codes for fingerprint in fingerprints):
        raise models_changed(name)
    return codes[fingerprints[0]], codes[fingerprints[1]] if len(fingerprints) > 1 else None


def models_changed(name: str) -> GenerationChanged:
    """For a write that has no codes of a present model."""
    return GenerationChanged(f"the models of collection {name!r} have changed; encode again and try again")


def went_over(name: str) -> GenerationChanged:
    """For a query that was encoded by a model which does not serve any more."""
    return GenerationChanged(
        f"collection {name!r} has gone over to another model since the query was encoded; encode it again"
    )


def refuse_begin(name: str, model: ModelKey, serving: str | None, other: str | None) -> None:
    """Raise where a collection cannot begin to go over to `model`.

    serving: the fingerprint of the model that serves; other: the state of the generation beside it.
    """
    if serving == model.fingerprint:
        raise ModelMismatch(
            f"collection {name!r} already has the codes of {model.name}:{model.version} (fingerprint "
            f"{model.fingerprint[:12]}); name another model"
        )
    if other not in (None, "kept"):
        raise NoSuchGeneration(
            f"collection {name!r} is going over to another model already, whose codes are {other}; wait for "
            "that job, cancel it, or give them up with DELETE /collections/{collection}/standby"
        )


def refuse_missing(name: str, missing: int, items: int | None) -> None:
    """Raise `InputsMissing` where any item has no input that another model could encode."""
    if missing:
        of = "" if items is None else f" of {items:,}"
        raise InputsMissing(
            f"{missing:,}{of} items of collection {name!r} have no kept input, so no other model can encode "
            "them: they came as codes, or keep_inputs is off. Ingest them as items, or fill a new collection"
        )


def none_beside(name: str, states: Sequence[str]) -> NoSuchGeneration:
    """For a generation that does not serve, of which there is none in one of `states`."""
    return NoSuchGeneration(
        f"collection {name!r} has no codes of a second model that are {' or '.join(states)}; "
        "POST /collections/{collection}/reencode makes some"
    )
