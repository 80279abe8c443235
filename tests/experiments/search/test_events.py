"""What TensorBoard gets of a trial."""

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tests.experiments.search.cases import trials_of


def test_every_trial_is_one_run_with_its_curves_and_hyper_parameters(searched):
    for name, trial in zip(range(24), trials_of(searched), strict=True):
        path = searched / "trials" / f"{name:03d}"
        assert len(list(path.iterdir())) == 1
        events = EventAccumulator(str(path)).Reload()
        assert {*events.Tags()["scalars"]} == {
            *("loss/train", "accuracy/train", "accuracy/validation")
        }
        curve = events.Scalars("accuracy/validation")
        assert [event.step for event in curve] == [1, 2, 3]
        final = trial["torch"]["numbers"]["validation_accuracy"]
        assert curve[-1].value == np.float32(final)
        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        start = HParamsPluginData.FromString(content).session_start_info
        assert start.hparams["lr"].number_value == trial["params"]["lr"]
        assert start.hparams["weight_decay"].number_value == trial["params"]["weight_decay"]
        assert start.hparams["round"].number_value == trial["round"]
        assert start.hparams["state"].string_value == "complete"
        content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
        metrics = HParamsPluginData.FromString(content).experiment.metric_infos
        assert [metric.name.tag for metric in metrics] == ["accuracy/validation"]
    assert not (searched / "partial").exists()
