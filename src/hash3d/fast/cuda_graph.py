"""Calls of a model that a GPU repeats without Python: CUDA graphs over buffers that stay where they are."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from hash3d.cache.messages import tell
from hash3d.unet.model import each_tensor, map_tensors

WARM_UPS = 3
"""Calls before a recording: libraries choose their kernels, and Triton compiles."""

Inputs = dict[str, Any]
"""Arguments by name: tensors, dictionaries, lists and tuples of tensors, and plain values."""

RecordingT = TypeVar("RecordingT")


def copied(inputs: Inputs) -> Inputs:
    """The same arguments in memory of their own, in the same memory format."""
    copy: Inputs = map_tensors(torch.clone, inputs)
    return copy


def form(value: Any) -> Any:
    """What a graph depends on: names, shapes and types of the tensors, and the plain values."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype, value.device
    if isinstance(value, dict):
        return tuple((name, form(item)) for name, item in value.items())
    return tuple(map(form, value)) if isinstance(value, list | tuple) else value


_RECORDINGS: list[None] = []
"""One for each recording that is made, from its first warm-up on."""


def inside_recording() -> bool:
    """Whether a CUDA graph is being made: functions then run as they are, so that it holds their kernels."""
    return bool(_RECORDINGS) or (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())


@contextmanager
def _recording() -> Iterator[None]:
    """Without garbage collection: where that frees another CUDA graph, CUDA ends the recording."""
    _RECORDINGS.append(None)
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        _RECORDINGS.pop()
        if collects:
            gc.enable()


@contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """Work on another stream, as a recording needs it, after what was queued before and before what comes next."""
    stream, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(here)
    with _recording(), torch.cuda.stream(stream), chosen_convolutions():
        yield
    here.wait_stream(stream)


@contextmanager
def recorded_into(graph: torch.cuda.CUDAGraph, pool: Any = None, *, tidy: bool = True) -> Iterator[None]:
    """Record what is launched in the block. With `tidy` PyTorch gives free memory back before, which takes long."""
    with _recording(), torch.cuda.graph(graph, pool=pool) if tidy else _capture(graph, pool), chosen_convolutions():
        yield


@contextmanager
def _capture(graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
    """What `torch.cuda.graph` does, on its stream, after the first recording of a pool."""
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.graph.default_capture_stream):
        graph.capture_begin(pool=pool)
        try:
            yield
        finally:
            graph.capture_end()


def chosen_convolutions() -> Any:
    """Let cuDNN try its convolutions, and keep the fastest: in a recording as in the calls before it."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True)


def recorded_or_none(what: str, record: Callable[[], RecordingT]) -> RecordingT | None:
    """A recording, or None with a warning that `what` runs eagerly, where it cannot be recorded."""
    try:
        return record()
    except Exception as error:
        reason = " ".join(str(error).split()[:20])
        tell(f"{what} runs eagerly, as it cannot be recorded: {type(error).__name__}: {reason}")
        return None


class RecordedCall:
    """A function of tensors without a derivative, recorded once and replayed.

    Args:
        function: takes the arguments by name and returns a tuple of tensors; no part of it may wait for the GPU.
        inputs: arguments of the form that all calls have.
        pool: memory that recordings share, if their results are used up before the next replay.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], inputs: Inputs, pool: Any = None) -> None:
        self._inputs = copied(inputs)
        device = next(each_tensor(inputs)).device
        with torch.no_grad():
            with beside(device):
                for _ in range(WARM_UPS):
                    function(**self._inputs)
            self._graph = torch.cuda.CUDAGraph()
            with recorded_into(self._graph, pool):
                self._outputs = function(**self._inputs)

    def __call__(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """The results for other arguments of the same form. They are overwritten by the next call."""
        with torch.no_grad():
            torch._foreach_copy_(list(each_tensor(self._inputs)), list(each_tensor(inputs)))
            self._graph.replay()
        return self._outputs


class RecordedGradient:
    """A differentiable function of one tensor, recorded forward and backward.

    A backward pass that does not follow its own forward pass finds the recording's memory overwritten; then the forward
    pass is replayed first.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self._x = example.detach().clone().requires_grad_()
        self.version = 0
        with torch.enable_grad():
            with beside(example.device):
                for _ in range(WARM_UPS):
                    y = function(self._x)
                    torch.autograd.grad(y, self._x, torch.ones_like(y))
                del y
            self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            with recorded_into(self._forward):
                self._y = function(self._x)
            self._dy = torch.ones_like(self._y)
            with recorded_into(self._backward, self._forward.pool()):
                (self._dx,) = torch.autograd.grad(self._y, self._x, self._dy)
        self._y = self._y.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """The result, differentiable in `x`, which has the example's shape."""
        result: Tensor = _Replayed.apply(x, self)  # type: ignore[no-untyped-call]
        return result

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The result, in memory of its own."""
        self.version += 1
        self._x.copy_(x)
        self._forward.replay()
        return self._y.clone()

    @torch.no_grad()
    def backward(self, x: Tensor, version: int, dy: Tensor) -> Tensor:
        """The gradient in `x` for the gradient `dy` in the result that the forward pass `version` gave."""
        if version != self.version:
            self.forward(x)
        self._dy.copy_(dy)
        self._backward.replay()
        return self._dx.clone()


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, recorded: RecordedGradient) -> Tensor:
        y = recorded.forward(x)
        ctx.save_for_backward(x)
        ctx.recorded, ctx.version = recorded, recorded.version
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.recorded.backward(x, ctx.version, grad_outputs[0]), None
