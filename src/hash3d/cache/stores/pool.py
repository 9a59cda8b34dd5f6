"""The store without keys."""

from ..config import GridConfig
from ..table import HashTable


class Pool(HashTable):
    """The supplement's "without key hashing": a plain queue of the last features, searched by latents alone (B.1).

    That is a table of one bucket in which cells do not count.
    """

    def __init__(self, *, length: int, max_bytes: int) -> None:
        grid = GridConfig(num_buckets=1).build()
        super().__init__(grid, queue_length=length, nearest=False, verify=False, max_bytes=max_bytes)
