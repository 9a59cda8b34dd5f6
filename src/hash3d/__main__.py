"""`python -m hash3d` is `hash3d`."""

from .cli import main

main()
