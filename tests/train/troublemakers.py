"""Optimizers and models in whose steps something happens, by ``--optimizer troublemakers:...``."""

import os
import resource
import signal
import sys
import time
from collections import defaultdict, deque

import numpy as np
import torch
from torch import nn

from torchopt_ref.optim import Adam


class Interrupted(Adam):
    """Sends its process a signal in one of its steps: TROUBLE is ``"TERM 7"``, ``"KILL 12"``.

    Of several processes the first is spared.
    """

    def step(self, closure=None):
        name, _, at = os.environ.get("TROUBLE", "").partition(" ")
        self.steps = getattr(self, "steps", 0) + 1
        if name and self.steps == int(at) and os.environ.get("RANK") != "0":
            os.kill(os.getpid(), signal.Signals[f"SIG{name}"])
        return super().step(closure)


class FullDisk(Adam):
    """From one of its steps on, no file of its process may grow beyond 50 kB."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == int(os.environ["TROUBLE"]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        return super().step(closure)


class NoRoom(Adam):
    """TROUBLE is ``"SIZE STEP"``: from that step on no file may grow beyond SIZE.

    A third word is a signal that the process then gets.
    """

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        size, at, name = [*os.environ["TROUBLE"].split(), "", "", ""][:3]
        if at and self.steps == int(at):
            most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), most))
            if name:
                os.kill(os.getpid(), signal.Signals[f"SIG{name}"])
        return super().step(closure)


class SlowToDelete(Adam):
    """The first process takes a while for every deletion: the others run ahead of it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if os.environ["RANK"] == "0":
            sys.addaudithook(lambda event, _: time.sleep(0.1) if event == "os.remove" else None)


class Counting(Adam):
    """Writes a line into the file TROUBLE at each step: how many tensors it steps."""

    def step(self, closure=None):
        with open(os.environ["TROUBLE"], "a") as file:
            print(sum(len(group["params"]) for group in self.param_groups), file=file)
        return super().step(closure)


class Failing(Adam):
    """Has a bug in its third step, by which a programmer must see a traceback."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 3:
            raise LookupError("a bug")
        return super().step(closure)


class Exploding(Adam):
    """Makes the weights infinite in some of its steps, as a learning rate too high would."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        if str(self.steps) in os.environ["TROUBLE"].split():
            with torch.no_grad():
                for group in self.param_groups:
                    for param in group["params"]:
                        param.mul_(float("inf"))
            return None
        return super().step(closure)


class BadGradient(Adam):
    """A gradient is infinite in some backward passes, though the loss is not."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.passes = 0
        self.param_groups[0]["params"][-1].register_hook(self.spoil)

    def spoil(self, gradient):
        self.passes += 1
        bad = os.environ["TROUBLE"].split()
        return gradient * float("inf") if {str(self.passes), "always"} & {*bad} else gradient


class BadSlot(Adam):
    """Its second moments overflow in one of its steps, which loss and weights do not show."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        super().step(closure)
        if str(self.steps) in os.environ["TROUBLE"].split():
            param = self.param_groups[0]["params"][0]
            self.state[param]["exp_avg_sq"].view(-1)[0] = float("inf")


class BadImages(Adam):
    """After its third step the first convolution once gets images that are not finite."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 3:
            hook = nn.modules.module.register_module_forward_pre_hook(
                lambda module, inputs: spoil(module, inputs)
            )

            def spoil(module, inputs):
                if not isinstance(module, nn.Conv2d):
                    return None
                hook.remove()
                return (inputs[0] * float("inf"),)

        return super().step(closure)


class Remembering(torch.optim.lr_scheduler.ConstantLR):
    """A scheduler with something in its state that is no number of Python's."""

    def __init__(self, optimizer, kind):
        super().__init__(optimizer)
        self.seen = {
            "float64": np.float64(0.5),
            "ndarray": np.ones(2),
            "deque": deque([1], 3),
            "defaultdict": defaultdict(int),
            "range": range(3),
            "later": 0,
        }[kind]
        self.later = kind == "later"

    def step(self, *epoch):
        super().step(*epoch)
        if getattr(self, "later", False):
            self.seen = range(self.last_epoch)


class BadStatistics(Adam):
    """After its third step the statistics of a BatchNorm once overflow, which no loss shows."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 3:

            def spoil(module, inputs, output):
                if isinstance(module, nn.BatchNorm2d):
                    module.running_var = torch.full_like(module.running_var, float("inf"))
                    hook.remove()

            hook = nn.modules.module.register_module_forward_hook(spoil)

        return super().step(closure)


class BadElsewhere(Adam):
    """In one of its steps it remembers NaN where no tensor of its own is: TROUBLE is "list 14"."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        kind, at = os.environ["TROUBLE"].split()
        super().step(closure)
        number = float("nan" if self.steps == int(at) else 1)
        slots = self.state[self.param_groups[0]["params"][0]]
        if kind == "list":
            slots.setdefault("history", [torch.ones(2)])[0].mul_(number)
        elif kind == "number":
            slots["norm"] = slots.get("norm", 1.0) * number
        else:
            self.param_groups[0]["distance"] = self.param_groups[0].get("distance", 1.0) * number
        self.param_groups[0]["bound"] = float("inf")


class Large(Adam):
    """Makes weights in one of its steps that are finite, but whose loss is not."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == int(os.environ["TROUBLE"]):
            with torch.no_grad():
                for group in self.param_groups:
                    for param in group["params"]:
                        param.fill_(1e30)
            return None
        return super().step(closure)


class Moving(Adam):
    """In one of its steps, TROUBLE is "12 FOLDER", another run comes to the place of its own."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        at, folder = os.environ["TROUBLE"].split()
        if self.steps == int(at):
            os.rename(folder, f"{folder}-old")
            os.mkdir(folder)
            with open(f"{folder}/lock", "w", encoding="utf-8"):
                pass
        return super().step(closure)
