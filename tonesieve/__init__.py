"""Extract a tone from a noisy mixture, sample by sample, and compare the error with the limit.

Every verb of the command line is a function here, under the same name. Each function is imported
when it is first used, so that importing the package takes almost no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tonesieve.commands.compare import compare
    from tonesieve.commands.describe import describe
    from tonesieve.commands.diagnose import diagnose
    from tonesieve.commands.evaluate import evaluate
    from tonesieve.commands.export import export
    from tonesieve.commands.extract import extract, stream
    from tonesieve.commands.find import find
    from tonesieve.commands.generate import generate
    from tonesieve.commands.limit import limit
    from tonesieve.commands.probe import probe
    from tonesieve.commands.pull import pull
    from tonesieve.commands.train import resume, run
    from tonesieve.config.config import Config
    from tonesieve.config.presets import load_config, presets
    from tonesieve.errors import UserError
    from tonesieve.learning.pretraining.train import pretrain
    from tonesieve.sweeping.sweep import sweep

_MODULES = {
    "Config": "config.config",
    "UserError": "errors",
    "compare": "commands.compare",
    "describe": "commands.describe",
    "diagnose": "commands.diagnose",
    "evaluate": "commands.evaluate",
    "export": "commands.export",
    "extract": "commands.extract",
    "find": "commands.find",
    "generate": "commands.generate",
    "limit": "commands.limit",
    "load_config": "config.presets",
    "presets": "config.presets",
    "pretrain": "learning.pretraining.train",
    "probe": "commands.probe",
    "pull": "commands.pull",
    "resume": "commands.train",
    "run": "commands.train",
    "stream": "commands.extract",
    "sweep": "sweeping.sweep",
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
    "find",
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
    if name not in _MODULES:
        raise AttributeError(f"module 'tonesieve' has no attribute {name!r}")
    try:
        return getattr(import_module(f"tonesieve.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        from tonesieve.errors import UserError, needs_extra

        raise UserError(needs_extra(error)) from None


def __dir__() -> list[str]:
    return __all__
