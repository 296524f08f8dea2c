"""Checks of modules called with other parameters than their own, and of functions of functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from embpress.compressors.testing.feature import NotApplicable, Use, allowed, feature
from embpress.compressors.testing.subject import close


@feature("`torch.func.functional_call`")
def check_functional_call(use: Use) -> None:
    """The tensors given are looked up, and get the gradients."""
    module, other = use.make(seed=1).eval(), use.make(seed=2).eval()
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5).add_(0.01)
    given = {
        name: value.detach().clone().requires_grad_(value.requires_grad) for name, value in other.named_parameters()
    }
    out = functional_call(module, given, (use.ids(),))
    close(out.detach(), other(use.ids()).detach(), "the tensors given")
    if not use.fused:
        use.loss(lambda ids: functional_call(module, given, (ids,))).backward()
        assert any(value.grad is not None and value.grad.any() for value in given.values()), "they get no gradient"
        assert all(parameter.grad is None for parameter in module.parameters()), "the module's own get one"


@feature("`torch.func.grad`")
def check_func_grad(use: Use) -> None:
    """Gradients by functorch are those of autograd."""
    use.with_gradients()
    module = use.make().eval()
    parameters = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return use.loss(lambda ids: functional_call(module, values, (ids,)))

    found = allowed(lambda: grad(loss)(parameters), (RuntimeError, NotImplementedError), "functorch", "setup_context")
    use.loss(module).backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} has no gradient by autograd"
            close(found[name], parameter.grad.to_dense(), f"gradient of {name}")


@feature("`torch.func.vmap` over the samples")
def check_vmap(use: Use) -> None:
    """Sample by sample under vmap as all at once."""
    module = use.make().eval()
    ids = use.ids()

    def one(sample: Tensor) -> Tensor:
        return module(sample.unsqueeze(0)).squeeze(0)

    with torch.no_grad():
        words = ("vmap", "functorch", "batching rule", "Batching rule", "data-dependent")
        found = allowed(lambda: vmap(one)(ids), (RuntimeError, NotImplementedError), *words)
        close(found, module(ids), "samples under vmap")


@feature("double backward")
def check_double_backward(use: Use) -> None:
    """Gradients of gradients are right, or refused: never numbers that are none."""
    use.with_gradients()
    if use.subject.make().tags.straight_through:
        raise NotApplicable("gradients that pass a rounding are those of no function, nor are theirs")
    module = use.make(**use.subject.double).eval()
    leaves = [parameter for parameter in module.parameters() if parameter.requires_grad]
    ids = use.ids()

    def energy() -> Tensor:
        return (module(ids) ** 3).sum()

    def second() -> tuple[Tensor, ...]:
        first = torch.autograd.grad(energy(), leaves, create_graph=True)
        return torch.autograd.grad(torch.stack([(g * g).sum() for g in first]).sum(), leaves, allow_unused=True)

    found = allowed(
        second,
        (RuntimeError, NotImplementedError),
        "twice",
        "double backward",
        "not implemented",
        "once",
        "automatic differentiation",
    )
    # d/dx of |g(x)|² in direction v, by central differences of the first gradient
    draw = torch.Generator().manual_seed(0)
    direction = [torch.randn(leaf.shape, generator=draw, dtype=leaf.dtype).to(leaf.device) for leaf in leaves]
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for leaf, way in zip(leaves, direction):
                leaf.add_(way, alpha=sign * 1e-5)
        ends.append(sum(float((g * g).sum()) for g in torch.autograd.grad(energy(), leaves)))
        with torch.no_grad():
            for leaf, way in zip(leaves, direction):
                leaf.sub_(way, alpha=sign * 1e-5)
    want = (ends[0] - ends[1]) / 2e-5
    got = sum(float((g * way).sum()) for g, way in zip(found, direction) if g is not None)
    assert abs(got - want) <= 1e-4 * max(abs(want), 1e-12), "it gives other numbers than finite differences"
