"""Pull a tone out of a noisy mixture, sample by sample, and see how close to the best it came.

Every verb of the command line is a function here, under the same name. They are loaded when first
used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tonesieve.catalogue import load_config, presets
    from tonesieve.config import Config
    from tonesieve.errors import UserError
    from tonesieve.exporting import export
    from tonesieve.forecasts import diagnose, limit
    from tonesieve.generation import generate
    from tonesieve.learning.pretraining import pretrain
    from tonesieve.runs import describe, evaluate, resume, run
    from tonesieve.sweeps import sweep
    from tonesieve.trials import compare, probe
    from tonesieve.use import extract, pull, stream

_ROOMS = {
    "Config": "config",
    "UserError": "errors",
    "compare": "trials",
    "describe": "runs",
    "diagnose": "forecasts",
    "evaluate": "runs",
    "export": "exporting",
    "extract": "use",
    "generate": "generation",
    "limit": "forecasts",
    "load_config": "catalogue",
    "presets": "catalogue",
    "pretrain": "learning.pretraining",
    "probe": "trials",
    "pull": "use",
    "resume": "runs",
    "run": "runs",
    "stream": "use",
    "sweep": "sweeps",
}

__all__ = [
    "Config",
    "UserError",
    "compare",
    "describe",
    "diagnose",
    "evaluate",
    "export",
    "extract",
    "generate",
    "limit",
    "load_config",
    "presets",
    "pretrain",
    "probe",
    "pull",
    "resume",
    "run",
    "stream",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'tonesieve' has no attribute {name!r}")
    try:
        return getattr(import_module(f"tonesieve.{_ROOMS[name]}"), name)
    except ModuleNotFoundError as error:
        from tonesieve.errors import UserError, needs_extra

        raise UserError(needs_extra(error)) from None


def __dir__() -> list[str]:
    return __all__
