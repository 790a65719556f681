"""Shapes in signatures are checked in every test: the numeric wings are imported under a hook."""

from __future__ import annotations

from hypothesis import settings
from jaxtyping import install_import_hook

WINGS = ["signals", "extractors", "learning", "judging", "extraction"]
hook = install_import_hook([f"tonesieve.{wing}" for wing in WINGS], "shapes.check")
hook.__enter__()  # for as long as the tests run

# The same examples every time, and no clock: machines are shared and noisy.
settings.register_profile("tonesieve", deadline=None, derandomize=True)
settings.load_profile("tonesieve")
