"""Each system of the field shown to work by its own metric, against its threshold and controls trained beside it."""

from importlib import import_module
from pkgutil import iter_modules

__all__ = sorted(module.name for module in iter_modules(__path__) if module.name not in ("base", "run"))

for _name in __all__:
    import_module(f"{__name__}.{_name}")
