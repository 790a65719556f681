"""``python -m tonesieve``."""

from tonesieve.cli import main

main()
