"""What mypy says of users' scripts: nothing of a right one, each mistake of a wrong one."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

CACHE = ROOT / ".mypy_cache" / "scripts"

# Most of torch is not needed for these scripts, and would take most of the time.
CONFIG = """
[mypy]
follow_imports = silent
[mypy-jax.*,torch._dynamo.*,torch._inductor.*,torch._functorch.*,torch._export.*]
follow_imports = skip
[mypy-torch._higher_order_ops.*,torch._refs.*,torch._subclasses.*,torch.ao.*,torch.export.*]
follow_imports = skip
[mypy-torch.distributed.*,torch.distributions.*,torch.onnx.*,torch.profiler.*,torch.testing.*]
follow_imports = skip
[mypy-torch._library.*,torch._native.*,torch.backends.*,torch.cuda.*,torch.fx.*,torch.jit.*]
follow_imports = skip
[mypy-torch.masked.*,torch.nested.*,torch.package.*,torch.quantization.*,torch.utils.data.*]
follow_imports = skip
[mypy-numpy.f2py.*,numpy.polynomial.*,numpy.testing.*,optree.*,sympy.*,filelock.*]
follow_imports = skip
"""

RIGHT = """
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import numpy_ref.optimizers as reference
from numpy_ref.layers import BatchNormalization
from numpy_ref.network import MultiLayerNet
from torchopt_ref import data, init, optim
from torchopt_ref.nn import BatchNorm1d, Dropout, fold_batchnorm
from torchopt_ref.optim import book, keras, optax

model = nn.Sequential(nn.Linear(4, 3), BatchNorm1d(3, sync=True), Dropout(scaling="inference"))
layer = nn.Linear(4, 3)
init.book.he_normal_(layer.weight, mode="fan_out")
table: str = str(init.initialize(model, "he"))
folded: nn.Linear = fold_batchnorm(layer, BatchNorm1d(3))

def closure() -> torch.Tensor:
    loss: torch.Tensor = model(torch.ones(2, 4)).sum()
    return loss

optimizer: torch.optim.Optimizer = optim.AdamW(model.parameters(), 1e-3, (0.9, 0.99), fused=True)
optimizer.step()
loss: torch.Tensor = optim.SGD(optim.param_groups_weight_decay(model, 0.1)).step(closure)
number: float = book.Adam(model.named_parameters(), foreach=False).step(lambda: 1.0)
keras.SGD(model.parameters(), nesterov=True, capturable=False).step()
optax.RMSprop(model.parameters(), eps_in_sqrt=False, differentiable=True).step()
torch.optim.lr_scheduler.StepLR(optim.Nesterov(model.parameters()), 3)

net = MultiLayerNet(4, [3], 2, activation="tanh", weight_init=0.01, batchnorm="after")
loss_, gradients = net.gradient(np.ones((2, 4)), np.array([0, 1]))
reference.Adam(weight_decay=0.1, maximize=True).update(net.params, gradients)
reference.AdamW(1e-3, amsgrad=True).update(net.params, gradients)
images: npt.NDArray[Any] = data.load("mnist").train_images
BatchNormalization(np.ones(3), np.zeros(3), convention="book", momentum=0.5)
"""

WRONG = """
import numpy as np
from torch import nn

import numpy_ref.keras
import numpy_ref.optimizers
from numpy_ref.layers import BatchNormalization
from numpy_ref.network import MultiLayerNet
from torchopt_ref import init, optim
from torchopt_ref.nn import BatchNorm1d, Dropout
from torchopt_ref.optim import book, keras, optax

layer = nn.Linear(4, 3)
params = [*layer.parameters()]
optim.Adam(params, lrr=1)  # call-arg
optim.SGD(params, beta=1)  # call-arg
book.Adam(params, lrr=1)  # call-arg
keras.AdamW(params, epsilon=1e-7)  # call-arg
optax.SGD(params, weight_decay=1)  # call-arg
keras.Adam(params, foreach="yes")  # arg-type
optim.Adam(params, betas=0.9)  # arg-type
optim.AdamW(params, betas=(0.9, 0.99, 0.999))  # arg-type
book.Adam(params, betas="0.9")  # arg-type
text: str = optim.Adam(params).step()  # assignment
text = optim.Adam(params).step(lambda: 1.0)  # assignment
Dropout(0.5, scaling="inverse")  # arg-type
Dropout(0.5, scale=2)  # call-arg
BatchNorm1d(3, fuse=True)  # call-arg
BatchNorm1d(3, momentum="torch")  # arg-type
init.book.xavier_normal_(layer.weight, mode="fan_sum")  # arg-type
init.kaiming_normal_(layer.weight, nonlinearity="rely")  # arg-type
init.he_normal_(layer.weight, mode="fan_avg")  # arg-type
init.initialize(layer, "kaiming")  # arg-type
numpy_ref.optimizers.Adam(lrr=1)  # call-arg
numpy_ref.optimizers.SGD(nesterov=True, weigth_decay=0.1)  # call-arg
numpy_ref.keras.Adam(betas=0.9)  # arg-type
MultiLayerNet(4, [3], 2, activation="gelu")  # arg-type
MultiLayerNet(4, [3], 2, batchnorm="both")  # arg-type
BatchNormalization(np.ones(3), np.zeros(3), convention="keras")  # arg-type
BatchNormalization(np.ones(3), np.zeros(3), epsilon=1e-5)  # call-arg
"""


def test_each_mistake_in_a_users_script_is_found_and_nothing_else(tmp_path):
    scripts = {"right.py": RIGHT, "wrong.py": WRONG}
    for name, text in {"mypy.ini": CONFIG, **scripts}.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", CACHE, *scripts],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    found = re.findall(r"^(\S+?):(\d+): error: .* \[([\w-]+)\]$", done.stdout, re.M)
    expected = [
        ("wrong.py", str(number), line.partition("  # ")[2])
        for number, line in enumerate(WRONG.splitlines(), start=1)
        if "  # " in line
    ]
    assert found == expected, done.stdout + done.stderr
