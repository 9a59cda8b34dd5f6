"""What the commands of the experiments have in common."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console


def leave(main: Callable[[], int], name: str) -> NoReturn:
    """Run a command, and leave with its exit code.

    A user's mistake is told in one sentence on stderr, and leaves with 2; with HASH3D_TRACEBACK set, by its traceback.
    """
    try:
        sys.exit(main())
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("HASH3D_TRACEBACK"):
            raise
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"{name}: {error}", markup=False)
        sys.exit(2)
