"""How an op is differentiated: a gradient, also under torch.func; second derivatives and forward mode are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.library import register_autograd
from torch.utils._pytree import tree_flatten, tree_unflatten

from embpress.kernels.errors import EmbpressError, NotDifferentiable, decoded


def differentiable(name: str, setup: Callable[..., None], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Gives the op `name` its gradient.

    Args:
        name: without the namespace.
        setup: as in `torch.library.register_autograd`.
        backward: as there; it calls the op behind `backward_op`.

    Returns:
        What stands for the op inside torch.func's transforms, with the same arguments and results.
    """
    register_autograd(f"embpress::{name}", backward, setup_context=setup)
    return _function(getattr(torch.ops.embpress, name).default, setup, backward)


def direct(name: str, setup: Callable[..., None], backward: Callable[..., Any]) -> Callable[..., Any]:
    """The op `name` with a gradient of its own, where `is_direct()`: a fraction of the time of `register_autograd`'s.

    Args:
        name: without the namespace, of the op without a gradient, which takes all arguments but the last.
        setup: as in `torch.library.register_autograd`, of all arguments and the op's result.
        backward: as there.
    """
    op = getattr(torch.ops.embpress, name).default
    own_backward = backward

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            out = op(*arguments[:-1])
            setup(ctx, arguments, out)
            return out

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return own_backward(ctx, grad)

    apply: Callable[..., Any] = Direct.apply
    return apply


def is_direct() -> bool:
    """Whether nobody looks on but autograd: no compiler, no trace, no transform of torch.func, no mode."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    modes = torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack()
    return not (modes or torch._C._are_functorch_transforms_active())


def backward_op(name: str) -> Callable[..., Any]:
    """The op `name`, whose results are gradients that cannot be differentiated again, as those of `nn.EmbeddingBag`.

    A backward without `create_graph` calls the op itself.
    """
    op = getattr(torch.ops.embpress, name).default

    def refuse(ctx: Any, *grads: Any) -> Any:
        raise NotDifferentiable(
            f"derivative for embpress::{name} is not implemented: a gradient that came from a compressed table cannot "
            "be differentiated again, as with nn.EmbeddingBag"
        )

    once = _function(op, lambda ctx, inputs, output: None, refuse)
    return lambda *arguments: once(*arguments) if torch.is_grad_enabled() else op(*arguments)


def gradient_of_rows(rows: Tensor, values: Tensor, like: Tensor) -> Tensor:
    """A gradient of rows as a sparse tensor, coalesced: all other rows have none.

    Args:
        rows: `(M,)` int64, ascending, each once.
        values: `(M, D)`, their gradients.
        like: `(n, D)`, what it is the gradient of.
    """
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, like.shape, is_coalesced=True, check_invariants=False)


def changed(*tensors: Tensor) -> None:
    """Tells autograd that an op has changed these in place: a graph that kept one of them must not be used any more."""
    if not torch.compiler.is_compiling():  # which keeps count itself
        torch.autograd.graph.increment_version([each for each in tensors if not each.is_inference()])


def wants_gradient(*groups: Sequence[Tensor]) -> bool:
    """Whether the op with a gradient is to be called; a trace takes it also where it checks itself without gradients.

    Raises:
        NotDifferentiable: one of the tensors has a tangent of forward-mode differentiation.
    """
    if forward_ad._current_level >= 0:
        for group in groups:
            if any(forward_ad.unpack_dual(each).tangent is not None for each in group):
                raise NotDifferentiable("lookups in compressed tables have no forward-mode derivative: take a backward")
    if not (torch.is_grad_enabled() or torch._C._get_tracing_state() is not None):
        return False
    return any(each.requires_grad for group in groups for each in group)


def again(
    error: Exception,
    function: Callable[..., Any] | None,
    arguments: Sequence[Any],
    check: Callable[..., Any],
    checked: Sequence[Any],
) -> Any:
    """After an op has failed: the results where only a transform of torch.func was in its way.

    Args:
        error: what was raised.
        function: what `differentiable` returned, called with `arguments`.
        check: raises for the first of `checked` that is wrong.

    Raises:
        EmbpressError: what was wrong, by its name. Exception: `error`, where it is something else.
    """
    if function is not None and not isinstance(error, EmbpressError) and torch._C._are_functorch_transforms_active():
        try:
            return function(*arguments)
        except Exception as next_error:  # the first one was about the transform
            error = next_error
    if not isinstance(error, EmbpressError):
        try:
            check(*checked)
            error = decoded(error)
        except EmbpressError as named:
            error = named
    try:
        raise error from None
    finally:
        del error  # whose traceback holds this frame, and with it the tensors


class _Form:
    """Arguments of an op without their tensors, which an `autograd.Function` takes one by one."""

    def __init__(self, arguments: Sequence[Any]) -> None:
        self.leaves, self.spec = tree_flatten(list(arguments))
        self.places = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        self.tensors = [self.leaves[i] for i in self.places]
        for i in self.places:
            self.leaves[i] = None
        self.results: Any = None  # how the op's results are put together, once it has been called

    def arguments(self, tensors: Sequence[Tensor]) -> list[Any]:
        leaves = list(self.leaves)
        for i, each in zip(self.places, tensors):
            leaves[i] = each
        return tree_unflatten(leaves, self.spec)


def _function(op: Any, setup: Callable[..., None], backward: Callable[..., Any]) -> Callable[..., Any]:
    """The op as an `autograd.Function`, which transforms of torch.func go through where they refuse custom ops."""

    class Call(torch.autograd.Function):
        @staticmethod
        def forward(form: _Form, *tensors: Tensor) -> Any:
            results, form.results = tree_flatten(op(*form.arguments(tensors)))
            return tuple(results)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            form, *tensors = inputs
            ctx.form = form
            setup(ctx, form.arguments(tensors), tree_unflatten(list(output), form.results))

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            structured = tree_unflatten(list(grads), ctx.form.results)
            found = backward(ctx, *(structured if isinstance(structured, tuple) else (structured,)))
            given = tree_unflatten(list(range(len(ctx.form.leaves))), ctx.form.spec)
            by_leaf: dict[int, Any] = {}
            for places, grad in zip(given, found if isinstance(found, tuple) else (found,)):
                if not isinstance(places, (list, tuple)):
                    by_leaf[places] = grad
                elif grad is not None:
                    by_leaf.update(zip(places, grad))
            return None, *(by_leaf.get(i) for i in ctx.form.places)

        @staticmethod
        def vmap(info: Any, in_dims: Any, form: _Form, *tensors: Tensor) -> Any:
            _, *dims = in_dims
            samples = [
                Call.apply(form, *(t if dim is None else t.select(dim, i) for t, dim in zip(tensors, dims)))
                for i in range(info.batch_size)
            ]
            return tuple(torch.stack(of_each) for of_each in zip(*samples)), (0,) * len(samples[0])

    def call(*arguments: Any) -> Any:
        form = _Form(arguments)
        return tree_unflatten(list(Call.apply(form, *form.tensors)), form.results)

    return call
