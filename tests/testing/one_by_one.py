"""An optimizer as a user writes one."""

import torch


class OneByOne(torch.optim.Optimizer):
    """Steps one parameter after the other: ``change`` gets it, its gradient, group and state."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.change(p, p.grad, group, self.state[p])
