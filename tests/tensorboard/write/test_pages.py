"""What stands on the pages of TensorBoard: texts, figures, the graph, and the dashboard."""

import copy
import json
import math
import re
import warnings
from importlib.metadata import version
from itertools import accumulate

import pytest
import torch
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn
from torch.optim import lr_scheduler

from tests.tensorboard.trainings import UNDRAWN, batches, mlp, train, watched_by_hand
from torchopt_ref import optim
from torchopt_ref.tensorboard import Monitor, NonFiniteError
from torchopt_ref.tensorboard.read.rules import Finding
from torchopt_ref.tensorboard.write.dashboard import layout


def test_text_of_the_run(tmp_path, read):
    model = mlp(hidden=(20,))
    torch.manual_seed(1234)
    config = {"model": "an mlp", "width": 20}
    watched_by_hand(model, torch.optim.Adam(model.parameters()), tmp_path, config=config)
    run = read(tmp_path)
    about = run.text("settings and versions")
    assert "`1234`" in about
    assert f"`{version('torch')}`" in about
    assert "betas: (0.9, 0.999)" in about
    assert '"width": 20' in about
    # TensorBoard shows texts in this order: what is wrong stands first.
    texts = sorted(tag for tag in run.tags["tensors"] if tag.endswith("/text_summary"))
    assert texts[0] == "diagnosis/text_summary"
    assert "graph" not in run.tags or not run.tags["graph"]
    hparams = {tag for tag in run._events.summary_metadata if tag.startswith("_hparams_")}
    assert hparams == {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }


def test_runs_are_told_apart_by_the_optimizers_dialect(tmp_path, read):
    model = mlp(hidden=(20,))
    found = []
    for cls in (optim.keras.Adam, torch.optim.Adam):
        folder = tmp_path / cls.__module__
        watched_by_hand(model, cls(model.parameters()), folder, steps=1)
        pages = read(folder)._events.summary_metadata
        found.append(pages["_hparams_/session_start_info"].plugin_data.content)
    assert [b"keras.Adam" in content for content in found] == [True, False]


def hyper_parameters(run):
    """What stands in the run's line of the page HParams."""
    page = run._events.summary_metadata["_hparams_/session_start_info"]
    start = HParamsPluginData.FromString(page.plugin_data.content).session_start_info
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}


def test_the_hyper_parameters_are_what_makes_the_formula(tmp_path, read):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.AdamW(model.parameters(), 0.003, (0.8, 0.99), maximize=True, fused=True)
    watched_by_hand(model, optimizer, tmp_path, config={"batch": 64})
    assert hyper_parameters(read(tmp_path)) == {
        **{"optimizer": "AdamW", "lr": 0.003, "beta1": 0.8, "beta2": 0.99, "eps": 1e-8},
        **{"weight_decay": 0.01, "maximize": "True", "batch": 64},
    }


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.01, total_iters=5),
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=40),
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: step / 10),
    ],
)
def test_the_learning_rate_is_the_one_that_was_set_not_the_first_of_its_warm_up(
    schedule, tmp_path, read
):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    schedule(optimizer)
    assert optimizer.param_groups[0]["lr"] < 0.1
    watched_by_hand(model, optimizer, tmp_path, steps=2)
    found = hyper_parameters(read(tmp_path))
    assert found["lr"] == 0.3
    assert not {"initial_lr", "max_lr"} & found.keys()


def test_figures_and_graph(tmp_path, read):
    model = mlp(hidden=(20,))
    watched_by_hand(
        model, torch.optim.SGD(model.parameters(), lr=0.1), tmp_path, record=Monitor.QUANTITIES
    )
    run = read(tmp_path)
    assert run.tags["images"] == ["confusion matrix", "taken for another class"]
    assert run.tags["graph"]


def dashboard(run):
    """The charts of each category."""
    event = run._events.Tensors("custom_scalars__config__")[-1]
    return of_dashboard(event.tensor_proto.string_val[0])


def of_dashboard(content):
    return {each.title: list(each.chart) for each in Layout.FromString(content).category}


def curves(chart, run):
    """The run's curves in a chart, as TensorBoard chooses them."""
    filled = [tag for each in chart.margin.series for tag in (each.value, each.lower, each.upper)]
    assert set(filled) <= set(run.scalars)
    patterns = [*chart.multiline.tag, *(f"{re.escape(tag)}$" for tag in filled)]
    return [tag for tag in run.scalars if any(re.match(pattern, tag) for pattern in patterns)]


def titles(run):
    return {category: [chart.title for chart in each] for category, each in dashboard(run).items()}


def verdict(run):
    """The title of the chart that stands first on the page, and its curves."""
    category, (chart,) = next(iter(dashboard(run).items()))
    assert category == "The verdict"
    return chart.title, curves(chart, run)


def test_every_chart_of_the_dashboard_has_its_curves(tmp_path, read):
    model = nn.Sequential(mlp(), nn.BatchNorm1d(10), nn.Dropout(0.1), nn.Sigmoid())
    watched_by_hand(model, torch.optim.Adam(model.parameters()), tmp_path)
    run = read(tmp_path)
    charts = [chart for each in dashboard(run).values() for chart in each]
    assert len(charts) == 26
    assert all(curves(chart, run) for chart in charts)
    # What is flat while all is well leaves the front rows to the training, and one scale would hide
    # the first drift, which is 0 or small, behind the second.
    assert [*titles(run).items()][-1] == (
        "Is it computed as meant?",
        [
            "gradient carried over from the step before",
            "parity drift from NumPy (ULP)",
            "parity drift from float64 (ULP)",
        ],
    )


def test_the_update_is_drawn_in_decades_before_the_rule_of_thumb(tmp_path, read):
    """A linear axis shows nothing but a first update that is a thousand times the others."""
    model = mlp(hidden=(5, 5))
    watched_by_hand(model, torch.optim.Adam(model.parameters()), tmp_path)
    run = read(tmp_path)
    (chart,) = [
        each
        for each in dashboard(run)["Are the steps of a good size?"]
        if each.title == "update to weight, log10: -3 is usual"
    ]
    layers, band = chart.margin.series
    drawn = {"median": layers.value, "smallest": layers.lower, "largest": layers.upper}
    for name, tag in drawn.items():
        values = [math.log10(value) for value in run[f"update to weight/[{name}]"].values()]
        assert [*run[tag].values()] == pytest.approx(values, abs=1e-5)
    assert {*run[band.lower].values()} == {-3.5}
    assert {*run[band.upper].values()} == {-2.5}
    # TensorBoard leaves out the largest 5 % of the points: here more of them are the largest.
    largest = [*run[layers.upper].values()]
    assert [*run[band.value].values()] == [*accumulate(largest, max)]


def test_the_first_chart_says_what_the_diagnosis_says(tmp_path, read):
    """Its title changes, and its category's does not: TensorBoard would leave a new one closed."""
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path / "sound", every=1, record=UNDRAWN) as monitor:
        train(model, optimizer, monitor, steps=2)
        live, _ = verdict(read(tmp_path / "sound"))
        train(model, optimizer, monitor, steps=2)
    with Monitor(model, optimizer, tmp_path / "broken", every=1, record=UNDRAWN) as monitor:
        train(model, optimizer, monitor, steps=6, zero_grad=False)
    assert live.startswith("sound: No verdict on the whole: it has 1 of the 3 records")
    title, shown = verdict(read(tmp_path / "sound"))
    assert title == "sound: Nothing stands out. Shown: loss."
    assert shown == ["loss"]
    title, shown = verdict(read(tmp_path / "broken"))
    assert title.startswith("broken: gradients are never zeroed. When a backward pass began, the")
    assert shown


@pytest.mark.parametrize(
    ("curve", "shown"),
    [
        ("loss", "loss"),
        ("dead units/1 ReLU", "dead units/1 ReLU"),
        ("update to weight/[largest]", "update to weight, log10: -3 is usual"),
        ("gradient norm/[all]", "gradient norm, log10"),
        ("not recorded", "loss"),
    ],
)
def test_a_finding_is_proven_by_its_best_curve(curve, shown):
    """Where that stands in a chart of the dashboard, by this chart; else alone."""
    quantities = ("update to weight", "gradient norm")
    spread = ("[median]", "[largest]", "[smallest]")
    tags = ["loss", "dead units/1 ReLU", "update to weight/[largest]", "gradient norm/[all]"]
    tags += [f"{quantity}, log10/{name}" for quantity in quantities for name in spread]
    finding = Finding("odd", ("1 ReLU",), "It is odd.", "", (curve,), 7)
    value = layout("mine", [""], tags, ["loss"], [finding, finding], ["no loss is recorded"])
    (chart,) = of_dashboard(value.tensor.string_val[0])["The verdict"]
    said = "mine: odd: 1 ReLU. It is odd. And 1 more: see the page Text."
    assert chart.title == f"{said} Shown: {shown}."


def test_what_is_logged_stands_in_front_and_training_beside_validation(tmp_path, read):
    model = mlp(hidden=(5,))
    optimizer = torch.optim.SGD(model.parameters())
    own = ["loss/validation", "eval_loss", "test accuracy", "reward", "train_f1", "val/f1"]
    breaks = "f1 (macro)"
    with Monitor(model, optimizer, tmp_path, every=1, record=UNDRAWN) as monitor:
        for x, y in batches(1):
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y, **dict.fromkeys([*own, breaks], 1))
    run = read(tmp_path)
    assert run[breaks], "seen under Time Series; a chart of the dashboard would stay empty"
    *charts, last = dashboard(run)["Is it learning?"]
    assert {chart.title: sorted(curves(chart, run)) for chart in charts} == {
        "loss": ["eval_loss", "loss", "loss/validation"],
        "accuracy": ["accuracy", "test accuracy"],
        "reward": ["reward"],
        "f1": ["train_f1", "val/f1"],
    }
    assert last.title == "learning rate"


def shown_for(folder):
    """The categories of a folder of runs, as TensorBoard puts them together."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(folder))
    runs.Reload()
    provider = MultiplexerDataProvider(runs, str(folder))
    plugin = CustomScalarsPlugin(TBContext(data_provider=provider))
    return json.loads(plugin.layout_impl(RequestContext(), ""))["category"]


def test_the_verdicts_of_several_runs_stand_beside_each_other(tmp_path):
    for name, zero_grad in (("broken", False), ("sound", True)):
        model = mlp(hidden=(20,))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        folder = tmp_path / name / "monitor"
        with Monitor(model, optimizer, folder, every=1, record=UNDRAWN) as monitor:
            train(model, optimizer, monitor, steps=5, zero_grad=zero_grad)
    first, *others = shown_for(tmp_path)
    sentences = sorted(chart["title"].split(".")[0] for chart in first["chart"])
    assert sentences == ["broken: gradients are never zeroed", "sound: Nothing stands out"]
    shown = [chart["title"] for category in others for chart in category["chart"]]
    assert len(shown) == len(set(shown)), "one chart for all runs"


def test_the_dashboard_has_no_empty_chart(tmp_path, read):
    """It is written again when there are new curves, here from the third step on."""
    model = mlp(hidden=(5,))
    optimizer = torch.optim.Adamax(model.parameters())
    with Monitor(model, optimizer, tmp_path, every=2) as monitor:
        for step, (x, y) in enumerate(batches(6), start=1):
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step >= 3:
                monitor.log(loss=loss)
    shown = titles(read(tmp_path))
    assert shown["Is it learning?"] == ["loss", "learning rate"]
    assert shown["Is it computed as meant?"] == ["gradient carried over from the step before"]
    assert "saturated (fraction), over layers" not in shown["Are the layers alive?"]


def test_a_training_that_ends_by_nan_in_its_first_step_has_a_dashboard(tmp_path, read):
    """Nothing was recorded, and the page has to show something all the same."""
    model = mlp(hidden=(5,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(NonFiniteError),
        Monitor(model, optimizer, tmp_path, nonfinite="raise") as monitor,
    ):
        train(model, optimizer, monitor, steps=1, poison=1)
    charts = [chart.title for chart in dashboard(read(tmp_path))["Is it learning?"]]
    assert charts == ["first step with a value that is not finite"]


def test_a_chart_with_a_band_for_each_optimizer(tmp_path, read):
    model = mlp(hidden=(5,))
    optimizers = {
        "first": torch.optim.SGD(model[0].parameters()),
        "last": torch.optim.SGD(model[3].parameters()),
    }
    with Monitor(model, optimizers, tmp_path):
        for x, y in batches(1):
            nn.functional.cross_entropy(model(x), y).backward()
            for optimizer in optimizers.values():
                optimizer.step()
    charts = dashboard(read(tmp_path))["Are the steps of a good size?"]
    # TensorBoard shows margin charts from the last to the first.
    assert [(chart.title, chart.margin.series[0].value) for chart in charts[:1:-1]] == [
        (
            f"update to weight, log10: -3 is usual of {name}",
            f"update to weight, log10/[median of {name}]",
        )
        for name in optimizers
    ]


def filled(run):
    """By the tag of their value, the steps of the three curves of each filling."""
    charts = [chart for each in dashboard(run).values() for chart in each]
    series = [each for chart in charts for each in chart.margin.series]
    return {s.value: {tuple(run.steps(tag)) for tag in (s.value, s.lower, s.upper)} for s in series}


MEDIAN = "update to weight, log10/[median"


@pytest.mark.parametrize(
    ("bad", "all_layers"),
    [((1,), True), ((2, 3), True), ((6,), True), ((1, 2, 3, 4, 5, 6), True), ((2, 6), False)],
)
def test_what_a_chart_fills_has_the_same_steps_where_some_are_not_finite(
    bad, all_layers, tmp_path, read
):
    """Else TensorBoard covers the dashboard with an error, of a run that needs to be looked at."""
    model = mlp(hidden=(5,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    start = copy.deepcopy(model.state_dict())
    with warnings.catch_warnings(), Monitor(model, optimizer, tmp_path, every=1) as monitor:
        warnings.simplefilter("ignore", RuntimeWarning)
        for step, (x, y) in enumerate(batches(6), start=1):
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            if step in bad:
                for param in model.parameters() if all_layers else model[0].parameters():
                    param.grad.fill_(torch.nan)
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
            model.load_state_dict(start)
    run = read(tmp_path)
    good = 6 - (len(bad) if all_layers else 0)
    assert all(len(steps) == 1 for steps in filled(run).values())
    ((points,),) = [steps for tag, steps in filled(run).items() if tag == f"{MEDIAN}]"] or [((),)]
    assert len(points) == good


def test_what_is_filled_of_each_optimizer_has_its_steps(tmp_path, read):
    model = mlp(hidden=(5,))
    often = torch.optim.SGD(model[0].parameters(), lr=0.1)
    seldom = torch.optim.SGD(model[3].parameters(), lr=0.1)
    optimizers = {"seldom": seldom, "often": often}
    with Monitor(model, optimizers, tmp_path, every=2):
        for step, (x, y) in enumerate(batches(9)):
            nn.functional.cross_entropy(model(x), y).backward()
            often.step()
            if step % 3 == 0:
                seldom.step()
    # The steps 1, 2, 4, 6, 8 of the second stand at those of the first.
    found = filled(read(tmp_path))
    assert found[f"{MEDIAN} of seldom]"] == {(1, 2)}
    assert found[f"{MEDIAN} of often]"] == {(1, 1, 1, 2, 3)}


def test_the_graph_of_a_training_under_autocast(tmp_path, read, capsys):
    """What autocast keeps of the weights would be constants of the trace."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, record=["graph"]):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(torch.ones(2, 4)).sum()
        loss.backward()
        optimizer.step()
    run = read(tmp_path)
    assert run.tags["graph"]
    assert not run.has_text("notes")
    assert capsys.readouterr().out == ""


def test_a_graph_that_cannot_be_traced_is_a_note(tmp_path, read, capsys):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 1)

        def forward(self, *, x):
            return self.linear(x)

    model = Odd()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, record=["graph", "updates"]):
        model(x=torch.ones(2, 4)).sum().backward()
        optimizer.step()
    run = read(tmp_path)
    assert "The graph cannot be traced" in run.text("notes")
    assert capsys.readouterr().out == ""
    assert run.steps("update norm/linear") == [1]
