"""Checks of the modes of torch, and of what is done with all parameters of a model."""

from __future__ import annotations

import torch

from embpress.compressors.testing.feature import Use, feature
from embpress.compressors.testing.subject import close


@feature("`torch.inference_mode`, and training afterwards")
def check_inference_mode(use: Use) -> None:
    """Lookups in inference mode are those outside of it, and leave nothing behind that cannot train."""
    module = use.make().eval()
    with torch.inference_mode():
        found = module(use.ids())
    close(found.clone(), module(use.ids()).detach(), "lookups in inference mode")
    before = use.answers(module)
    use.step(module.train())
    assert not torch.equal(use.answers(module), before), "it does not train afterwards"


@feature("`torch.autocast` in bfloat16")
def check_autocast(use: Use) -> None:
    """A training step under autocast is one, and its lookups are those without it, rounded."""
    module = use.make()
    before = use.answers(module)
    with torch.autocast(use.subject.device, torch.bfloat16):
        out = module(use.ids())
        loss = use.loss(module)
    close(out.detach().float(), module(use.ids()).detach(), "lookups under autocast", 0.02)
    loss.backward()
    if not use.fused:
        grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        assert any(grad.any() for grad in grads), "no gradient"
        assert all(grad.isfinite().all() for grad in grads), "a gradient is not finite"
    else:
        assert not torch.equal(use.answers(module), before), "it does not train"


@feature("Adam with weight decay, clipping of the gradients' norm")
def check_adam(use: Use) -> None:
    """What asks for dense gradients gets them unless sparse ones were asked for."""
    use.with_gradients()
    module = use.make()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.01, weight_decay=0.01)
    before = use.answers(module)
    use.loss(module).backward()
    torch.nn.utils.clip_grad_norm_(trained, 1e-3)
    norm = torch.stack([parameter.grad.norm() for parameter in trained if parameter.grad is not None]).norm()
    assert float(norm) <= 1.01e-3, f"the norm is {float(norm):.3g} after clipping to 0.001"
    optimizer.step()
    assert not torch.equal(use.answers(module), before), "it does not train"
    assert use.answers(module).isfinite().all(), "a row is not finite after a step"
