"""The command line: one Typer program over the functions of the package."""
