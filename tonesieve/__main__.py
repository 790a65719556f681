"""``python -m tonesieve``."""

from tonesieve.cli.app import main

main()
