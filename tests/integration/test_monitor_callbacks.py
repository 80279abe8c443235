"""The monitor as a callback of Lightning's and of Hugging Face's Trainer, in real runs of both."""

import json
import logging
import warnings

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.thinned import only


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    return x, (x.sum(1, keepdim=True) > 0).float()


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def curves(folder):
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags}


def has_hooks(model):
    return any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def bits(model):
    return [param.detach().clone() for param in model.parameters()]


def assert_same(model, other):
    for a, b in zip(bits(model), other, strict=True):
        assert torch.equal(a, b)


@pytest.fixture
def lightning():
    return pytest.importorskip("lightning.pytorch", reason="lightning is not installed")


def quiet_trainer(lightning, **options):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )


def fit(lightning, folder, callbacks, fail_at=None, epochs=1, checkpoint=None, lr=0.1, **options):
    losses = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net()

        def training_step(self, batch, index):
            if index == fail_at:
                raise RuntimeError("the data ended")
            x, t = batch
            loss = nn.functional.mse_loss(self.net(x), t)
            losses.append(loss.item())
            return loss

        def validation_step(self, batch, index):
            x, t = batch
            self.log("validation loss", nn.functional.mse_loss(self.net(x), t))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=lr)

    module = Module()
    trainer = quiet_trainer(
        lightning, max_epochs=epochs, default_root_dir=folder, callbacks=callbacks, **options
    )
    loader = DataLoader(TensorDataset(*data()), batch_size=8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("error", "the monitor stopped")
        try:
            trainer.fit(module, loader, loader, ckpt_path=checkpoint)
        finally:
            if checkpoint is None and fail_at is None:
                trainer.save_checkpoint(folder / "last.ckpt")
    return module, losses


def test_lightning_has_curves_and_the_same_weights(lightning, tmp_path):
    from torchopt_ref.tensorboard.lightning import MonitorCallback

    plain, _ = fit(lightning, tmp_path, [])
    callback = MonitorCallback(tmp_path / "run", model="net", every=1)
    watched, losses = fit(lightning, tmp_path, [callback])
    assert_same(watched, bits(plain))
    assert not has_hooks(watched)
    run = curves(tmp_path / "run")
    assert run["loss"] == pytest.approx(dict(enumerate(losses, start=1)))
    assert set(run["update to weight/0 Linear"]) == set(range(1, 9))
    assert {"activation std/1 Tanh", "gradient norm/[all]", "validation loss"} <= run.keys()


def test_lightning_resumes_its_curves_and_averages_accumulated_losses(lightning, tmp_path):
    from torchopt_ref.tensorboard.lightning import MonitorCallback

    def callback():
        return MonitorCallback(tmp_path / "run", model="net", every=1)

    options = {"accumulate_grad_batches": 2}
    _, losses = fit(lightning, tmp_path, [callback()], **options)
    checkpoint = tmp_path / "last.ckpt"
    _, later = fit(lightning, tmp_path, [callback()], epochs=2, checkpoint=checkpoint, **options)
    run = curves(tmp_path / "run")
    assert list(run["update norm/0 Linear"]) == list(range(1, 9))
    losses += later
    means = [(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=True)]
    assert list(run["loss"].values()) == pytest.approx(means)


@pytest.mark.parametrize("faster", only(["second"], ["first", "second"]))
def test_lightning_resumes_where_optimizers_step_at_different_rates(lightning, tmp_path, faster):
    """One takes five steps for each step of the other, as critics of Wasserstein GANs do."""
    from torchopt_ref.tensorboard.lightning import MonitorCallback

    class Module(lightning.LightningModule):
        automatic_optimization = False

        def __init__(self):
            super().__init__()
            self.a, self.b = net(), net()

        def training_step(self, batch, index):
            x, t = batch
            for times, optimizer in zip(self.times, self.optimizers(), strict=True):
                for _ in range(times):
                    loss = nn.functional.mse_loss(self.a(x) + self.b(x), t)
                    optimizer.zero_grad()
                    self.manual_backward(loss)
                    optimizer.step()
            return loss

        times = (5, 1) if faster == "first" else (1, 5)

        def configure_optimizers(self):
            return [torch.optim.SGD(each.parameters(), lr=0.01) for each in (self.a, self.b)]

    def fit(epochs, checkpoint=None, folder="run"):
        callbacks = [MonitorCallback(tmp_path / folder, every=1)]
        trainer = quiet_trainer(lightning, max_epochs=epochs, callbacks=callbacks)
        loader = DataLoader(TensorDataset(*data()), batch_size=8)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("error", "the monitor stopped")
            trainer.fit(Module(), loader, ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return curves(tmp_path / folder)

    first, second = (40, 8) if faster == "first" else (8, 40)
    before = fit(1)
    assert list(before["update norm/[all of 0]"]) == list(range(1, first + 1))
    after = fit(2, tmp_path / "last.ckpt")
    assert list(after["update norm/[all of 0]"]) == list(range(1, 2 * first + 1))
    for tag in before.keys() - {"speed/samples per second"}:
        assert after[tag].items() >= before[tag].items(), tag
    steps = list(after["update norm/[all of 1]"])
    assert steps == list(range(first // second or 1, 2 * first + 1, first // second or 1))
    elsewhere = fit(3, tmp_path / "last.ckpt", "elsewhere")
    assert min(elsewhere["update norm/[all of 0]"]) == 2 * first + 1


def test_a_lightning_callback_that_is_used_again_begins_with_the_trainer(lightning, tmp_path):
    from torchopt_ref.tensorboard.lightning import MonitorCallback

    callback = MonitorCallback(tmp_path / "run", model="net", every=1)
    for _ in range(2):
        fit(lightning, tmp_path, [callback])
    assert list(curves(tmp_path / "run")["loss"]) == list(range(1, 9))


def test_lightning_leaves_no_hook_after_an_exception(lightning, tmp_path):
    from torchopt_ref.tensorboard.lightning import MonitorCallback

    callback = MonitorCallback(tmp_path / "run", model="net", every=1)
    modules = []
    keep = type("Keep", (lightning.Callback,), {"on_fit_start": lambda s, t, m: modules.append(m)})
    with pytest.raises(RuntimeError, match="the data ended"):
        fit(lightning, tmp_path, [keep(), callback], fail_at=3)
    assert not has_hooks(modules[0])
    assert max(curves(tmp_path / "run")["loss"]) == 3


@pytest.mark.parametrize("trainer", ["lightning", "hugging_face"])
def test_trainers_are_ended_by_on_finding_and_write_to_sinks(trainer, tmp_path):
    """A second fit with the same callback replaces the lines of the first."""
    from torchopt_ref.tensorboard import JsonLines

    def stop(finding):
        raise RuntimeError(finding.kind)

    def train():
        options = {"every": 1, "on_finding": stop, "sinks": [sink]}
        if trainer == "lightning":
            lightning = pytest.importorskip("lightning.pytorch", reason="lightning is missing")
            from torchopt_ref.tensorboard.lightning import MonitorCallback

            callback = MonitorCallback(tmp_path / "run", model="net", **options)
            fit(lightning, tmp_path, [callback], lr=1e4)
        else:
            pytest.importorskip("transformers", reason="transformers is not installed")
            from torchopt_ref.tensorboard.transformers import MonitorCallback

            callback = MonitorCallback(tmp_path / "run", **options)
            try:
                hugging_face(tmp_path, [callback], lr=1e4)
            finally:
                callback.on_train_end(None, None, None)  # Of an exception it is not told.

    sink = JsonLines(tmp_path / "lines.jsonl")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="learning rate too high"):
            train()
    lines = [json.loads(line) for line in sink.path.read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, steps[-1] + 1))
    assert any("learning rate too high" in line.get("diagnosis", "") for line in lines)


def hugging_face(folder, callbacks, steps=8, resume=None, lr=0.1):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x, t):
            return {"loss": nn.functional.mse_loss(self.net(x), t)}

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    x, t = data()
    rows = [{"x": row, "t": target} for row, target in zip(x, t, strict=True)]
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(
            output_dir=str(folder / "trainer"),
            per_device_train_batch_size=8,
            max_steps=steps,
            use_cpu=True,
            report_to=[],
            save_steps=4,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=4,
            label_names=["t"],
            prediction_loss_only=True,
            disable_tqdm=True,
        ),
        train_dataset=rows,
        eval_dataset=rows[:16],
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)),
        callbacks=callbacks,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the monitor stopped")
        trainer.train(resume_from_checkpoint=resume)
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return model, logged


def test_hugging_face_has_curves_and_the_same_weights_and_resumes(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed")
    from torchopt_ref.tensorboard.transformers import MonitorCallback

    plain, _ = hugging_face(tmp_path / "plain", [])
    folder = tmp_path / "run"
    watched, losses = hugging_face(tmp_path, [MonitorCallback(folder, every=1)])
    assert_same(watched, bits(plain))
    assert not has_hooks(watched)
    run = curves(folder)
    assert list(run["loss"].values()) == pytest.approx(losses)
    assert list(run["update to weight/net.0 Linear"]) == list(range(1, 9))
    assert {"activation std/net.1 Tanh", "gradient cosine/[all]", "eval_loss"} <= run.keys()
    checkpoint = str(tmp_path / "trainer" / "checkpoint-8")
    hugging_face(tmp_path, [MonitorCallback(folder, every=1)], steps=12, resume=checkpoint)
    longer = curves(folder)["update to weight/net.0 Linear"]
    assert list(longer) == list(range(1, 13))
    assert longer.items() >= run["update to weight/net.0 Linear"].items()
