"""Checks of tracing: export, compile, jit."""

from __future__ import annotations

import torch

from embpress.compressors.testing.feature import Refused, Use, feature, must_refuse
from embpress.compressors.testing.subject import close


@feature("`torch.export` of the folded module")
def check_export(use: Use) -> None:
    """The exported program looks up the same rows, and so does the module afterwards."""
    folded, twin = (use.make().eval().fold() for _ in range(2))  # type: ignore[operator]
    ids, want = use.ids(), use.answers(twin)  # what is exported has not been called before
    program = torch.export.export(folded, (ids,))
    assert type(folded(ids)) is torch.Tensor, "the module gives fake tensors after it was exported"
    assert torch.equal(use.answers(folded), want), "the module looks up other rows after it was exported"
    close(program.module()(ids), folded(ids), "the exported program")


@feature("`torch.compile(fullgraph=True)`, forward and backward")
def check_compile(use: Use) -> None:
    """No graph break in a training step, and the same gradients; an update in the backward may say that it is none."""
    module, twin = use.make(), use.make()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    try:
        use.loss(compiled).backward()
    except torch._dynamo.exc.Unsupported as error:
        if "(reason: " not in str(error):  # what a method says itself
            raise
        raise Refused(str(error).partition("(reason: ")[2].partition(")\n")[0]) from None
    use.loss(twin).backward()
    for (name, ours), theirs in zip(module.named_parameters(), twin.parameters()):
        if theirs.grad is not None:
            assert ours.grad is not None, f"{name} has no gradient"
            close(ours.grad.to_dense(), theirs.grad.to_dense(), f"gradient of {name}")
    close(use.answers(module), use.answers(twin), "lookups after the step")


@feature("`torch.jit.trace` of the folded module")
def check_trace(use: Use) -> None:
    """The traced module looks up the rows of other ids as well."""
    folded = use.make().eval().fold()  # type: ignore[operator]
    traced = torch.jit.trace(folded, (use.ids(),), check_trace=False)
    other = use.ids(8, 11)
    close(traced(other), folded(other), "the traced module")


@feature("`torch.jit.script` is refused by name")
def check_script(use: Use) -> None:
    """Script, which is of the past, is refused in a sentence that names what to use."""
    module = use.make()
    must_refuse(lambda: torch.jit.script(module), (Exception,), "script")
