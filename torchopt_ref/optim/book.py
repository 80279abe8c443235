r"""The textbook's dialect: K. Saito, "Deep Learning from Scratch", O'Reilly Japan 2016, chapter 6.

The optimizers have the book's hyper-parameters and defaults, under the names of ``torch.optim``,
and its arithmetic, which is not that of torch's namesakes. In the formulas :math:`g` is the
gradient, :math:`\gamma` is ``lr``, :math:`\mu` ``momentum``, :math:`\alpha` ``alpha``,
:math:`\beta_i` ``betas`` and :math:`\epsilon` ``eps``.
"""

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT
from typing_extensions import Unpack

from .adagrad import adagrad
from .dialect import Dialect, Flags
from .exact import sqrt
from .rmsprop import rmsprop
from .rule import Group, Rule, Scalar, Slots, options


class Textbook(Dialect):
    """An optimizer of the book; as for every :class:`Optimizer`, ``rule`` is its arithmetic.

    Arguments and errors are those of :class:`Dialect`: ``lr``, ``momentum``, ``alpha`` and ``eps``
    are not negative, ``betas`` two numbers in [0, 1).
    """

    dialect = "book"


def sgd(param: Tensor, grad: Tensor, slots: Slots, *, lr: Scalar) -> tuple[Tensor, Slots]:
    return param - lr * grad, {}


class SGD(Textbook):
    r"""Stochastic gradient descent.

    .. math::
        \theta_t = \theta_{t-1} - \gamma g_t

    Source: H. Robbins, S. Monro, "A stochastic approximation method", 1951.
    """

    rule: ClassVar[Rule] = Rule(sgd, lambda group: {}, options("lr"), counts=False)

    def __init__(self, params: ParamsT, lr: float | Tensor = 0.01, **flags: Unpack[Flags]) -> None:
        super().__init__(params, {"lr": lr}, **flags)

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """Only the elements that are in the gradient move."""
        return grad


def momentum(
    param: Tensor, grad: Tensor, slots: Slots, *, lr: Scalar, momentum: Scalar
) -> tuple[Tensor, Slots]:
    v = momentum * slots["momentum_buffer"] - lr * grad
    return param + v, {"momentum_buffer": v}


def nesterov(
    param: Tensor, grad: Tensor, slots: Slots, *, lr: Scalar, momentum: Scalar
) -> tuple[Tensor, Slots]:
    v = slots["momentum_buffer"]
    param = param + (momentum * momentum * v - (1 + momentum) * lr * grad)
    return param, {"momentum_buffer": momentum * v - lr * grad}


class Momentum(Textbook):
    r"""Gradient descent with momentum, the learning rate inside the velocity.

    .. math::
        v_t &= \mu v_{t-1} - \gamma g_t \\
        \theta_t &= \theta_{t-1} + v_t

    State: ``momentum_buffer`` (:math:`v`).

    Source: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """

    rule: ClassVar[Rule] = Rule(
        momentum, lambda group: {"momentum_buffer": 0}, options("lr", "momentum"), counts=False
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        momentum: float = 0.9,
        **flags: Unpack[Flags],
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum}, **flags)

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """The gradient is made dense: momentum also moves the elements that only earlier gradients
        had."""
        return grad.to_dense()


class Nesterov(Momentum):
    r"""Nesterov's accelerated gradient; :math:`\theta` is the point where the gradient is taken.

    .. math::
        \theta_t &= \theta_{t-1} + \mu^2 v_{t-1} - (1 + \mu) \gamma g_t \\
        v_t &= \mu v_{t-1} - \gamma g_t

    State: ``momentum_buffer`` (:math:`v`).

    Source: Y. Nesterov, 1983; this form: Y. Bengio et al., "Advances in optimizing recurrent
    networks", 2012, equation 7.
    """

    rule: ClassVar[Rule] = replace(Momentum.rule, update=nesterov)


class AdaGrad(Textbook):
    r"""AdaGrad: a learning rate per element, falling with the squares of its past gradients.

    .. math::
        h_t &= h_{t-1} + g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \, \frac{g_t}{\sqrt{h_t} + \epsilon}

    State: ``step`` and ``sum`` (:math:`h`), created by the constructor.

    Source: J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods", JMLR 12, 2011.
    """

    rule: ClassVar[Rule] = Rule(adagrad, lambda group: {"sum": 0}, options("lr", "eps"))

    def __init__(
        self, params: ParamsT, lr: float | Tensor = 0.01, eps: float = 1e-7, **flags: Unpack[Flags]
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps}, **flags)
        self.create_state()

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """Only the elements that are in the gradient have squares to add, and only they move."""
        return grad


Adagrad = AdaGrad


class RMSprop(Textbook):
    r"""RMSprop: AdaGrad with a moving average of the squares, so that old gradients are forgotten.

    .. math::
        h_t &= \alpha h_{t-1} + (1 - \alpha) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \, \frac{g_t}{\sqrt{h_t} + \epsilon}

    State: ``step`` and ``square_avg`` (:math:`h`).

    Source: T. Tieleman, G. Hinton, "Lecture 6.5", Coursera 2012.
    """

    rule: ClassVar[Rule] = Rule(
        rmsprop, lambda group: {"square_avg": 0}, options("lr", "alpha", "eps")
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-7,
        **flags: Unpack[Flags],
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps}, **flags)


def adam(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    lr_t: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Tensor, Slots]:
    m = beta1 * slots["exp_avg"] + (1 - beta1) * grad
    v = beta2 * slots["exp_avg_sq"] + (1 - beta2) * grad * grad
    return param - lr_t * m / (sqrt(v) + eps), {"exp_avg": m, "exp_avg_sq": v}


def adam_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    lr_t = group["lr"] * sqrt(1 - beta2**step) / (1 - beta1**step)
    return {"lr_t": lr_t, "beta1": beta1, "beta2": beta2, "eps": group["eps"]}


class Adam(Textbook):
    r"""Adam, with epsilon added before the correction of the moments.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \gamma_t &= \gamma \sqrt{1 - \beta_2^t} / (1 - \beta_1^t) \\
        \theta_t &= \theta_{t-1} - \gamma_t \, \frac{m_t}{\sqrt{v_t} + \epsilon}

    State: ``step`` (:math:`t`), ``exp_avg`` (:math:`m`) and ``exp_avg_sq`` (:math:`v`).

    Source: D. Kingma, J. Ba, "Adam", ICLR 2015, the form at the end of section 2.
    """

    rule: ClassVar[Rule] = Rule(adam, lambda group: {"exp_avg": 0, "exp_avg_sq": 0}, adam_scalars)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-7,
        **flags: Unpack[Flags],
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps}, **flags)
