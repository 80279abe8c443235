"""Parameters of unusual layout, shape and dtype."""

import torch
from torch import Tensor
from torch.nn import Parameter

from ..comparing import flat, require_close, require_same
from ..subject import FACTORS, UNDER_WAY, Params, Subject, has_lr, seeded, set_lr
from ..verdicts import Failure, Skip, refusal, require


def non_contiguous_parameters_train_alike(subject: Subject) -> None:
    """A transposed parameter, with a gradient of either layout, trains as its contiguous copy.

    Channels-last and tied, transposed weights are not contiguous. Bound: a few float32 roundings,
    as sums over a matrix may run in another order.

    Remedy: ``reshape`` in place of ``view``, and no walking of the memory by address.
    """
    skip_if_draws_differ(subject)
    expected, _ = subject.trained(range(3))
    for transposed_grads in (True, False):
        params = [Parameter(transposed(param.detach())) for param in subject.parameters()]

        def gradients(params: Params, step: int, swap: bool = transposed_grads) -> list[Tensor]:
            grads = subject.gradients(params, step)
            return [transposed(grad) for grad in grads] if swap else grads

        with refusal("(non-?|not |only |be )contiguous"):
            subject.train(subject.build(params), params, range(3), gradients)
        layout = "transposed" if transposed_grads else "contiguous"
        require_close(f"with {layout} gradients", params, expected, rtol=1e-5, atol=1e-6)


def skip_if_draws_differ(subject: Subject) -> None:
    if subject.traits.stochastic:
        raise Skip("random numbers are drawn in the order of the memory (stochastic)")


def transposed(tensor: Tensor) -> Tensor:
    """The same values in column-major order; a vector with a stride of 2."""
    if tensor.dim() < 2:
        return torch.stack([tensor, tensor], dim=-1)[..., 0]
    return tensor.t().contiguous().t()


def scalar_parameter_trains(subject: Subject) -> None:
    """A 0-dim parameter stays 0-dim and finite, and moves against a constant gradient.

    Learned temperatures and gates are scalars.

    Remedy: ask for ``param.numel()`` and ``param.dim()``, not ``len(param)``; index no dimension
    that may be missing.
    """
    if subject.traits.two_dimensional_only or subject.traits.sparse_only:
        raise Skip("it takes no scalars (two_dimensional_only, sparse_only)")
    param = Parameter(torch.tensor(0.5))
    with refusal("scalar|0-dim"):
        optimizer = subject.build([param])
        subject.train(optimizer, [param], range(UNDER_WAY), lambda *_: [torch.tensor(2.0)])
    require(param.shape == (), f"the scalar has become of shape {tuple(param.shape)}")
    require(
        float(param) < 0.5,
        f"in {UNDER_WAY} steps with a gradient of 2 it went from 0.5 to {float(param):.6g}",
    )


def empty_parameter_is_harmless(subject: Subject) -> None:
    """A parameter without elements, among others, raises nothing and changes nothing.

    Sharded models have empty shards.

    Remedy: skip a parameter of which ``param.numel() == 0``.
    """
    expected, _ = subject.trained(range(3))
    params = [*subject.parameters(), Parameter(torch.empty(0, 3))]
    with refusal("empty|no elements"):
        subject.train(subject.build(params), params, range(3))
    if not subject.traits.stochastic:
        require_same("beside an empty parameter", params[:3], expected)


def complex_parameters_descend(subject: Subject) -> None:
    """Complex parameters move downhill in both parts and stay finite, or are refused.

    What must not happen: that the imaginary part is dropped without a word.

    Remedy: ``torch.view_as_real`` of parameter, gradient and slots; or refuse complex parameters in
    words.
    """
    start, target = torch.complex(*torch.randn(2, 2, 4, 3, generator=seeded(1)))
    seen = []
    for factor in FACTORS:
        param = Parameter(start.clone())

        def gradients(params: Params, step: int) -> list[Tensor]:
            return [2 * (params[0].detach() - target)]

        with refusal("complex|dtype"):
            optimizer = subject.build([param])
            if has_lr(optimizer):
                set_lr(optimizer, factor)
            subject.train(optimizer, [param], range(20), gradients)
        before, after = squared_distances(start, target), squared_distances(param.detach(), target)
        if after[0] < before[0] and after[1] < before[1]:
            return
        seen.append(f"({after[0]:.6g}, {after[1]:.6g}) {FACTORS[factor]}")
    raise Failure(
        f"the squared distances ({before[0]:.6g}, {before[1]:.6g}) of real and imaginary part were "
        f"after 20 steps {', '.join(seen)}"
    )


def complex_parameters_move_as_pairs_of_reals(subject: Subject) -> None:
    """A complex parameter moves as the pair of its real numbers would, or is refused.

    torch's own tests hold every optimizer of ``torch.optim`` to it: real and imaginary part each
    have their own mean of squares. Adam with ``v`` of ``g * g`` takes the root of a complex number;
    such a step still goes downhill, in another direction. Bound: 1e-5 relative or 1e-6.

    Remedy: step ``torch.view_as_real`` of parameter, gradient and slots; or, if ``g * g.conj()`` is
    meant, expect this failure with that reason.
    """
    if subject.traits.two_dimensional_only or subject.traits.sparse_only:
        raise Skip("a pair adds a dimension (two_dimensional_only, sparse_only)")
    skip_if_draws_differ(subject)
    start = torch.randn(4, 3, 2, generator=seeded(1))
    whole, pair = Parameter(torch.view_as_complex(start.clone())), Parameter(start.clone())

    def gradients(params: Params, step: int) -> list[Tensor]:
        grad = torch.randn(4, 3, 2, generator=seeded(step))
        return [torch.view_as_complex(grad) if params[0].is_complex() else grad]

    with refusal("complex|dtype"):
        subject.train(subject.build([whole]), [whole], range(UNDER_WAY), gradients)
    subject.train(subject.build([pair]), [pair], range(UNDER_WAY), gradients)
    require(whole.is_complex(), f"the complex parameter has become {whole.dtype}")
    seen = torch.view_as_real(whole.detach())
    require_close("as complex numbers against pairs", [seen], [pair], rtol=1e-5, atol=1e-6)


def squared_distances(value: Tensor, target: Tensor) -> tuple[float, float]:
    """Of the real parts, and of the imaginary parts."""
    gap = torch.view_as_real(value - target).double().square()
    return float(gap[..., 0].sum()), float(gap[..., 1].sum())


def float16_parameters_train(subject: Subject) -> None:
    """float16 parameters stay float16 and finite and move against the gradient, or are refused.

    Models are trained in pure half precision for their memory.

    Remedy: keep ``param.dtype``; compute in float32 and round once when storing; or refuse in
    words.
    """
    require_trains_in(subject, torch.float16)


def bfloat16_parameters_train(subject: Subject) -> None:
    """bfloat16 parameters stay bfloat16 and finite and move against the gradient, or are refused.

    Large models are trained this way.

    Remedy: keep ``param.dtype``; compute in float32 and round once when storing; or refuse in
    words.
    """
    require_trains_in(subject, torch.bfloat16)


def require_trains_in(subject: Subject, dtype: torch.dtype) -> None:
    # Steps of a small lr may be lost in the rounding of the parameter.
    for factor in (1.0, 1e2, 1e4):
        along = moved_along_gradient(subject, dtype, factor)
        if 0.0 not in along or subject.traits.lr_free:
            break
    for index, distance in enumerate(along):
        require(
            distance < 0 or (subject.traits.lr_free and distance == 0),
            f"in {UNDER_WAY} steps parameter {index} went {distance:.3g} along a constant gradient",
        )


def moved_along_gradient(subject: Subject, dtype: torch.dtype, factor: float) -> list[float]:
    """How far each parameter goes along a constant gradient; ``Failure`` if its dtype changes or
    it is not finite."""
    params = [Parameter(param.detach() / 100) for param in subject.parameters(dtype)]
    start = [param.detach().float() for param in params]
    grads = subject.gradients(params, 0)
    with refusal("half|float16|dtype"):
        optimizer = subject.build(params)
        if has_lr(optimizer):
            set_lr(optimizer, factor)
        subject.train(
            optimizer, params, range(UNDER_WAY), lambda now, step: subject.gradients(now, 0)
        )
    along = []
    for index, (param, old, grad) in enumerate(zip(params, start, grads, strict=True)):
        require(param.dtype == dtype, f"parameter {index} has become {param.dtype}")
        moved = param.detach().float() - old
        require(
            torch.isfinite(moved).all(), f"parameter {index} is not finite after {UNDER_WAY} steps"
        )
        along.append(float((moved * grad.float()).sum()))
    return along


def large_float16_gradients_leave_parameters_finite(subject: Subject) -> str | None:
    """float16 gradients of 1000, whose squares overflow, leave the parameters finite.

    They are ordinary with loss scaling. A measurement names the slots that overflowed all the same.

    Remedy: compute squares and their means in float32.
    """
    params = subject.parameters(torch.float16)

    def gradients(params: Params, step: int) -> list[Tensor]:
        return [torch.sign(grad) * 1000 for grad in subject.gradients(params, step)]

    with refusal("half|float16|dtype"):
        optimizer = subject.build(params)
        subject.train(optimizer, params, range(10), gradients)
    for index, param in enumerate(params):
        lost = int((~torch.isfinite(param)).sum())
        require(not lost, f"{lost} of {param.numel()} elements of parameter {index} not finite")
    overflowed = {
        path.rpartition(".")[2]
        for path, value in flat(optimizer.state_dict()["state"]).items()
        if isinstance(value, Tensor) and not torch.isfinite(value).all()
    }
    return f"not finite: {', '.join(sorted(overflowed))}" if overflowed else None
