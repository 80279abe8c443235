"""Batches through the model: forward and backward to train, forward to evaluate."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.distributed.fsdp import FSDPModule
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from .config import Config
from .data.splits import Batches
from .distributed import Processes
from .stopping import Stop

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def least_images(model: nn.Module, processes: Processes) -> int:
    """Images that every process has to have of each part of a batch that ``model`` is trained on.

    One image gives a BatchNorm no statistics. Where processes share them, one image in each is
    enough; but each must have one: the image that only keeps a process in step must not count.
    """
    norms = [each for each in model.modules() if isinstance(each, _BatchNorm)]
    if not norms:
        return 0
    shared = processes.count > 1 and all(getattr(norm, "sync", False) for norm in norms)
    return 1 if shared else 2


def parts_of_batch(whole: int, least: int, accumulate: int, processes: Processes) -> int:
    """In how many parts a batch of ``whole`` images goes through a model that needs ``least``.

    As many in every process, or one would wait for the others for ever.
    """
    return max(1, min(accumulate, whole // (processes.count * max(1, least))))


class Passes:
    """How batches go through a model, by the options of the training.

    Sums are float64 tensors of three: the loss, the hits, the images, of this process's share.
    """

    def __init__(
        self,
        config: Config,
        normalise: nn.Module,
        device: torch.device,
        processes: Processes,
        least: int,
    ) -> None:
        self._config, self._normalise = config, normalise
        self._device, self._processes, self._least = device, processes, least
        layouts = {True: torch.channels_last, False: torch.contiguous_format}
        self._layout = layouts[config.channels_last]

    def train(
        self,
        model: nn.Module,
        scaler: GradScaler,
        images: Tensor,
        labels: Tensor,
        own: int,
        whole: int,
    ) -> Tensor:
        """Add the gradient of the mean loss of a batch, which goes through in parts; its sums.

        DDP and FSDP take the mean over the processes, whose shares need not be equally large. With
        the factor below that is the mean over all images of the batch, which are ``whole`` many.
        ``own`` is 0 if the images of this process are there to keep in step only.
        """
        sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        factor = self._processes.count / whole if own else 0.0
        parts = parts_of_batch(whole, self._least, self._config.accumulate, self._processes)
        pairs = zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
        for part, pair in enumerate(pairs, 1):
            last = part == parts
            if isinstance(model, FSDPModule):
                model.set_requires_gradient_sync(last)
            waits = not last and isinstance(model, DistributedDataParallel)
            with model.no_sync() if waits else nullcontext():  # type: ignore[operator]
                losses, hits = self._forward(model, *pair, self._config.label_smoothing)
                loss = losses.sum()
                scaler.scale(loss * factor).backward()
            if own:
                sums[0] += loss.detach()
                sums[1] += hits.sum()
        sums[2] = own
        return sums

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Batches, stop: Stop) -> tuple[float, float, bool]:
        """Mean loss and accuracy over all processes, without label smoothing.

        The third is True if a signal cut it short in some process.
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
                if not isinstance(model, FSDPModule):  # whose processes need each other always
                    break
        sums[2] = batches.images
        loss, hit, _, cut = self._processes.sum(sums).tolist()
        return loss / batches.images, hit / batches.images, cut > 0

    def _forward(
        self, model: nn.Module, images: Tensor, labels: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """The loss of each image, and whether it got its label."""
        x, y = (each.to(self._device, non_blocking=True) for each in (images, labels))
        x = self._normalise(x).contiguous(memory_format=self._layout)
        name = self._config.amp
        with torch.autocast(self._device.type, AMP.get(name), enabled=name in AMP):
            scores = model(x)
            losses = cross_entropy(scores, y, reduction="none", label_smoothing=smoothing)
        return losses, scores.argmax(1) == y
