"""The checker of shapes and types that the tests import the package under."""

from beartype import BeartypeConf, beartype

# An int is allowed where a float is expected, as everywhere in Python.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
