"""Shapes in signatures are checked in every test: the numeric wings are imported under a hook."""

from __future__ import annotations

from jaxtyping import install_import_hook

WINGS = ["signals", "extractors", "learning", "judging", "extraction"]
hook = install_import_hook([f"tonesieve.{wing}" for wing in WINGS], "shapes.check")
hook.__enter__()  # for as long as the tests run
