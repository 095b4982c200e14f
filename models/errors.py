"""Everything the models package can refuse or report.

    ModelsError
    ├── InvalidInput        an item that the model cannot take: wrong kind, shape or value
    │   └── InputTooLarge   ... because it is beyond a limit
    ├── DataError           a data set that cannot be read or used
    ├── InvalidParams       a family, width or parameter that does not exist or is out of range
    ├── UnknownModel        no such name, version or alias in the registry
    ├── ArtefactDamaged     a saved model that is not what was saved
    ├── EmbeddingUnavailable  a pretrained network that is missing, or not the one a model was trained with
    └── TrainingFailed      the loss or a weight stopped being finite

Every message says what was wrong, the limit, the value seen and the way out.
"""

from __future__ import annotations


class ModelsError(Exception):
    """Base of every error raised by the `models` package."""


class InvalidInput(ModelsError):
    """An item that the model cannot take."""

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position
        """Index of the offending item in its batch, where there is one."""


class InputTooLarge(InvalidInput):
    """An item beyond a stated limit."""


class DataError(ModelsError):
    """A data set that cannot be read, or not used for what was asked."""


class InvalidParams(ModelsError):
    """A family, width or parameter that does not exist or is out of range."""


class UnknownModel(ModelsError):
    """The registry has no such name, version or alias."""


class ArtefactDamaged(ModelsError):
    """A saved model whose files are missing, changed, or not of this format."""


class EmbeddingUnavailable(ModelsError):
    """A pretrained network that is not installed, is damaged, or is not the one that a model was trained with."""


class TrainingFailed(ModelsError):
    """Training cannot go on; the message says at which step and why."""
