"""The numbers of a step, which may still be on their way from a GPU when the next step begins."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor


class Metrics(Mapping[str, float]):
    """The numbers of one step by name, host numbers to whoever reads them.

    Those that lie on a GPU are sent to the host at once, and waited for when the first of them is read: a loop that
    reads the numbers of a step when they have `arrived` never waits.

    Args:
        numbers: host numbers and scalars, in the order of a row.
    """

    def __init__(self, numbers: Mapping[str, float | Float[Tensor, ""]]) -> None:
        scalars = {name: value.detach() for name, value in numbers.items() if isinstance(value, Tensor)}
        self._numbers: dict[str, float] = {
            name: 0.0 if isinstance(value, Tensor) else value for name, value in numbers.items()
        }
        self._late, self._copy, self._copied = list(scalars), torch.zeros(0), None
        if scalars:
            together = torch.stack(list(scalars.values()))
            self._copy = together.to("cpu", non_blocking=True)  # Into pinned memory, if it comes from a GPU.
            if together.is_cuda:
                self._copied = torch.cuda.current_stream(together.device).record_event()

    @property
    def arrived(self) -> bool:
        """Whether reading waits for nothing."""
        return self._copied is None or self._copied.query()

    def __getitem__(self, name: str) -> float:
        self._settle()
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def _settle(self) -> None:
        """Take over what was sent."""
        if not self._late:
            return
        if self._copied is not None:
            self._copied.synchronize()
        self._numbers.update(zip(self._late, self._copy.tolist(), strict=True))
        self._late, self._copied = [], None
