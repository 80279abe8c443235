"""Short trainings of many kinds, watched by a Monitor: healthy ones, and ones broken in one way.

A training is a function that takes ``watch``, calls ``watch(model, optimizer, **options)`` for its
Monitor, and says by ``assert`` that it learnt (a healthy one), or nothing (a broken one). It seeds
itself, needs no file, and takes seconds.

The thresholds of the rules were chosen on one half of them, and judged on the other; a training's
name decides which half is its own. Those of the modules ``..._unseen`` were written when that was
done, by people who had not read the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from zlib import crc32

Run = Callable[[Callable[..., Any]], None]


@dataclass(frozen=True)
class Specimen:
    """``causes`` are the kinds of findings that name what is wrong, none for a healthy one;
    ``also`` are those that are true of it besides."""

    name: str
    run: Run
    causes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def part(self) -> str:
        """Of the zoo that it belongs to."""
        if "_unseen" in self.run.__module__:
            return "unseen"
        return "judged" if crc32(self.name.encode()) % 2 else "chosen on"


PARTS = ("chosen on", "judged", "unseen")
HEALTHY: dict[str, Specimen] = {}
BROKEN: dict[str, Specimen] = {}


def healthy(run: Run) -> Run:
    add(HEALTHY, Specimen(run.__name__, run))
    return run


def broken(*causes: str, also: tuple[str, ...] = ()) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        add(BROKEN, Specimen(run.__name__, run, causes, also))
        return run

    return register


def add(kind: dict[str, Specimen], training: Specimen) -> None:
    if training.name in HEALTHY or training.name in BROKEN:
        raise ValueError(f"two trainings are called {training.name}")
    kind[training.name] = training


for module in sorted(Path(__file__).parent.glob("*_*.py")):
    if module.stem[0] in "bh":
        import_module(f"{__name__}.{module.stem}")

GAPS = {
    "seed_set_again_in_each_step": "looks like training on all of the data in each step",
    "slices_counted_by_the_epoch_in_place_of_the_batch": "looks like that, too",
    "recurrent_relu_net_over_80_steps_without_clipping": "called a learning rate too high",
    "recurrent_tanh_net_of_wide_weights_without_clipping": "called a learning rate too high",
    "recurrent_net_of_relu_whose_state_grows_by_a_third_in_each_step": "its loss falls",
    "thirty_residual_blocks_that_each_double_the_variance": "called a first loss far off",
    "plain_recurrent_net_asked_for_the_first_of_eighty_symbols": "no gradient over time is seen",
    "plain_convolutions_twenty_deep_with_default_weights": "their units are dead, too",
    "each_value_of_the_gradient_cut_at_1e_5": "the norm is not quite constant",
    "minimax_generator_against_a_critic_that_is_ahead": "a critic is logged, so no loss is judged",
    "warm_up_of_a_hundred_thousand_steps": "it is being warmed up",
    "transformer_by_adam_at_a_twentieth": "it learns, if less",
    "dqn_whose_steps_outrun_its_own_targets": "an agent without a reward",
    "deep_q_net_multiplies_the_next_value_by_done": "a reward that does not rise is no finding",
    "probability_of_an_action_that_was_drawn_once_more": "a reward that does not rise is none",
    "policy_gradient_with_the_wrong_sign": "its loss begins below 0",
    "adamw_with_a_weight_decay_of_10": "the weights are halved only, and the loss falls",
    "relu_output_for_standardised_targets": "the loss falls by more than half",
    "softplus_values_for_a_reward_of_minus_1_in_each_step": "never quite 0, and the loss falls",
    "vae_that_weighs_kl_by_1000": "the loss falls, to the mean image",
    "hardest_triplets_collapse_to_one_point": "its units are dead, as they are not used",
    "siamese_net_without_stop_gradient_and_negatives_collapses": "the loss falls to 0",
    "mixup_weighs_the_two_labels_the_wrong_way_round": "it learns, if less",
    "diffusion_model_is_asked_for_other_noise_than_was_added": "the loss swings too much",
    "momentum_of_keras_in_a_resnet_of_torch_with_batches_of_four": "harm that is hardly seen",
    "losses_of_validation_summed_with_their_graphs": "40 MiB in the second half",
    "test_with_a_single_batch_left_from_debugging": "two points of validation",
    "masks_scaled_to_1_by_255_are_cut_to_integers_of_0": "said of the predictions",
}
"""Broken trainings whose cause is not named, and why."""
ON_THE_EDGE = (
    "lstm_forecast_by_adam_at_one",
    "attention_that_is_not_scaled_with_large_weights",
)
"""Broken trainings whose cause is named on one machine and not on another: after other roundings
they go another way, as they do from another seed."""
