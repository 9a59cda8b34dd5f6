"""The runtime type checker of the package under pytest: an int is a float (PEP 484), a violation is a TypeError."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
