"""What stands on the pages of TensorBoard: texts, figures, the graph, and the dashboard."""

import copy
import re
import warnings
from importlib.metadata import version

import pytest
import torch
from torch import nn
from trainings import batches, mlp, train, watched_by_hand

from torchopt_ref import optim
from torchopt_ref.tensorboard import Monitor, NonFiniteError


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
    from tensorboard.plugins.custom_scalar import layout_pb2

    event = run._events.Tensors("custom_scalars__config__")[-1]
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {category.title: list(category.chart) for category in layout.category}


def test_every_chart_of_the_dashboard_has_its_curves(tmp_path, read):
    model = nn.Sequential(mlp(), nn.BatchNorm1d(10), nn.Dropout(0.1), nn.Sigmoid())
    watched_by_hand(model, torch.optim.Adam(model.parameters()), tmp_path)
    run = read(tmp_path)
    charts = [chart for each in dashboard(run).values() for chart in each]
    assert len(charts) == 23
    for chart in charts:
        for pattern in chart.multiline.tag:
            assert any(re.search(pattern, tag) for tag in run.scalars), pattern
        for series in chart.margin.series:
            assert {series.value, series.lower, series.upper} <= set(run.scalars)
            low, high = run[series.lower][8], run[series.upper][8]
            assert low < 1e-3 < high
            assert high / low == pytest.approx(10)
    # One scale would hide the first, which is 0 or small, behind the second.
    exact = {chart.title: [*chart.multiline.tag] for chart in dashboard(run)[EXACT]}
    assert exact == {
        "parity drift from NumPy (ULP)": ["^parity drift/NumPy"],
        "parity drift from float64 (ULP)": ["^parity drift/float64"],
    }


EXACT = "Is it computed exactly?"


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
    run = read(tmp_path)
    shown = {title: [chart.title for chart in each] for title, each in dashboard(run).items()}
    assert shown["Is it learning?"] == ["loss", "learning rate"]
    assert EXACT not in shown
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
    bands = {chart.title: chart.margin.series[0].value for chart in charts if chart.margin.series}
    assert bands == {
        f"update to weight, band around 1e-3 of {name}": f"update to weight/[median of {name}]"
        for name in optimizers
    }


def margins(run):
    """For each margin chart, the steps of its curve and of both edges of its band."""
    charts = [chart for each in dashboard(run).values() for chart in each]
    series = [each for chart in charts for each in chart.margin.series]
    return [{tuple(run.steps(tag)) for tag in (s.value, s.lower, s.upper)} for s in series]


@pytest.mark.parametrize(
    ("bad", "all_layers"),
    [((1,), True), ((2, 3), True), ((6,), True), ((1, 2, 3, 4, 5, 6), True), ((2, 6), False)],
)
def test_a_curve_and_its_band_have_the_same_steps_where_some_are_not_finite(
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
    for steps in margins(run):
        ((points),) = steps
        assert len(points) == good
    assert margins(run) or not good


def test_each_optimizers_band_has_its_steps(tmp_path, read):
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
    assert margins(read(tmp_path)) == [{(1, 2)}, {(1, 1, 1, 2, 3)}]


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
