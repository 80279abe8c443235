"""Batches through the model: forward and backward to train, forward to evaluate."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from .config import DeviceOptions, OptimizerOptions
from .data.batches import Batches
from .distributed import Processes
from .state import TrainingState
from .stopping import Stop

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def least_images(model: nn.Module, processes: Processes) -> int:
    """The least number of images in each process's share of each part of a batch.

    A BatchNorm needs two images for its statistics. Where processes share the statistics, one image
    in each is enough, but each must have one: a process without images of its own passes one that
    must not count.
    """
    norms = [each for each in model.modules() if isinstance(each, _BatchNorm)]
    if not norms:
        return 0
    shared = processes.count > 1 and all(getattr(norm, "sync", False) for norm in norms)
    return 1 if shared else 2


def parts_of_batch(whole: int, least: int, accumulate: int, processes: Processes) -> int:
    """In how many parts a batch of ``whole`` images goes through a model that needs ``least``.

    The number is the same in every process: with fewer parts than the others, a process would not
    answer them, and they would wait for ever.
    """
    return max(1, min(accumulate, whole // (processes.count * max(1, least))))


class Passes:
    """Batches through the model of ``training``, in the way that its options say.

    Args:
        training: whose model gets the gradients.
        options: ``accumulate`` and ``label_smoothing`` are used.
        device: ``amp`` and ``channels_last`` are used.
        normalise: turns uint8 images into the model's inputs.
    """

    def __init__(
        self,
        training: TrainingState,
        options: OptimizerOptions,
        device: DeviceOptions,
        normalise: nn.Module,
    ) -> None:
        self._accumulate, self._smoothing = options.accumulate, options.label_smoothing
        self._normalise, self._sharded = normalise, training.sharded
        self._device, self._processes = training.device, training.processes
        self._scaler = training.scaler
        self._least = least_images(training.model, training.processes)
        self._amp = AMP.get(device.amp)
        self._layout = torch.channels_last if device.channels_last else torch.contiguous_format

    def train(
        self, model: nn.Module, images: Tensor, labels: Tensor, own: int, whole: int
    ) -> Tensor:
        """Add the gradient of the mean loss of a batch, part by part.

        DDP and FSDP take the mean over the processes, whose shares need not be equally large. The
        factor below turns that into the mean over all images of the batch.

        Args:
            model: that of the training, or what wraps it to train.
            images: the share of this process.
            labels: of these images.
            own: how many of these images count: all, or 0 where this process has no share and
                passes an image only because the others wait for it.
            whole: the images of the batch, over all processes.

        Returns:
            The sums of this process over the images that count: loss, hits, images; float64.
        """
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        factor = self._processes.count / whole if own else 0.0
        parts = parts_of_batch(whole, self._least, self._accumulate, self._processes)
        pairs = zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
        for part, pair in enumerate(pairs, 1):
            last = part == parts
            if self._sharded:
                model.set_requires_gradient_sync(last)  # type: ignore[operator]
            waits = not last and isinstance(model, DistributedDataParallel)
            with model.no_sync() if waits else nullcontext():  # type: ignore[operator]
                losses, hits = self._forward(model, *pair, self._smoothing)
                loss = losses.sum()
                self._scaler.scale(loss * factor).backward()
            if own:
                sums[0] += loss.detach()
                sums[1] += hits.sum()
        sums[2] = own
        return sums

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Batches, stop: Stop) -> tuple[float, float, bool]:
        """Mean loss and accuracy over all images, without label smoothing.

        The third value is True if a signal came in some process: then the first two mean nothing.
        """
        model.eval()
        self._processes.share_buffers(model)
        sums = torch.zeros(4, dtype=torch.float64, device=self._device)
        for images, labels, own, _ in batches.epoch():
            losses, hits = self._forward(model, images, labels, 0.0)
            sums[0] += losses[:own].double().sum()
            sums[1] += hits[:own].sum()
            if stop.signal:
                sums[3] = 1.0
                if not self._sharded:  # the others need this process's part of the parameters
                    break
        sums[2] = batches.images
        loss, hit, _, cut = self._processes.sum(sums).tolist()
        return loss / batches.images, hit / batches.images, cut > 0

    def _forward(
        self, model: nn.Module, images: Tensor, labels: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """The loss of each image, and whether its label has the highest score."""
        x, y = (each.to(self._device, non_blocking=True) for each in (images, labels))
        x = self._normalise(x).contiguous(memory_format=self._layout)
        with torch.autocast(self._device.type, self._amp, enabled=self._amp is not None):
            scores = model(x)
            losses = cross_entropy(scores, y, reduction="none", label_smoothing=smoothing)
        return losses, scores.argmax(1) == y
