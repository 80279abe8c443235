"""Lightning, Hugging Face's Trainer and accelerate: a tiny run of each, where it is installed."""

import logging
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from torchopt_ref import optim


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    return x, (x.sum(1, keepdim=True) > 0).float()


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def by_hand(make, steps=8):
    """The weights after ``steps`` batches of 8, in order, without any framework."""
    net = model()
    optimizer = make(net.parameters())
    x, t = data()
    for batch in range(steps):
        rows = slice(8 * batch, 8 * batch + 8)
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x[rows]), t[rows]).backward()
        optimizer.step()
    return [param.detach() for param in net.parameters()]


def adam(params):
    return optim.Adam(params, lr=0.01)


def assert_same(net, expected):
    for param, other in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(param.detach().cpu(), other, rtol=1e-6, atol=1e-7)


def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = model()

        def training_step(self, batch, index):
            x, t = batch
            return nn.functional.mse_loss(self.net(x), t)

        def configure_optimizers(self):
            optimizer = adam(self.parameters())
            return [optimizer], [torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)]

    module = Module()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, DataLoader(TensorDataset(*data()), batch_size=8))
    assert_same(module.net, by_hand(adam))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    fresh = adam(model().parameters())
    fresh.load_state_dict(saved["optimizer_states"][0])
    assert fresh.state_dict()["state"][0]["step"] == 8


def test_hugging_face_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model()

        def forward(self, x, t):
            return {"loss": nn.functional.mse_loss(self.net(x), t)}

    class Ordered(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    net = Net()
    optimizer = adam(net.parameters())
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    x, t = data()
    trainer = Ordered(
        net,
        transformers.TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            max_steps=8,
            max_grad_norm=0,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=[{"x": row, "t": target} for row, target in zip(x, t, strict=True)],
        optimizers=(optimizer, constant),
    )
    trainer.train()
    assert_same(net.net, by_hand(adam))


def test_accelerate():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    net = model()
    loader = DataLoader(TensorDataset(*data()), batch_size=8)
    net, optimizer, loader = accelerator.prepare(net, adam(net.parameters()), loader)
    for x, t in loader:
        optimizer.zero_grad()
        accelerator.backward(nn.functional.mse_loss(net(x), t))
        optimizer.step()
    assert_same(net, by_hand(adam))
