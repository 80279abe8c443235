"""torch.compile."""

from collections.abc import Callable
from typing import Any

import torch

from ..comparing import require_close
from ..subject import Subject
from ..verdicts import Skip, refusal, require

WARM_UP, STEPS = 4, 8


def compiled_step_equals_eager(subject: Subject) -> str:
    """The step under ``torch.compile`` equals the eager one; nothing is compiled after four steps.

    A step count that is a Python number is a constant to the compiler: it compiles every step
    anew, until it gives up. The step is traced by Dynamo and run without code generation, so that
    the optimizer is compared, not the compiler. Bound: 1e-5 relative or 1e-7.

    Remedy: count steps in a tensor of ``state``; let no Python number or string change from step to
    step.
    """
    if subject.traits.needs_closure:
        raise Skip("a closure that runs the model is not compiled (needs_closure)")
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    params = subject.parameters()
    optimizer = subject.build(params)
    compiled = torch.compile(lambda: optimizer.step(), backend=backend)
    counts = []
    with refusal("compile|dynamo|trace"):
        for step in range(STEPS):
            for param, grad in zip(params, subject.gradients(params, step), strict=True):
                param.grad = subject.laid_out(grad)
            torch.manual_seed(step)
            compiled()
            counts.append(len(graphs))
    torch._dynamo.reset()
    expected, _ = subject.trained(range(STEPS))
    require_close("compiled against eager", params, expected, rtol=1e-5, atol=1e-7)
    later = counts[-1] - counts[WARM_UP - 1]
    require(not later, f"{later} graphs were compiled in steps {WARM_UP + 1} to {STEPS}")
    return f"{counts[-1]} graphs"
