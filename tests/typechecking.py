"""The runtime type checker that pytest puts on every function of the package: an int is a float (PEP 484's tower)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
