"""Checkpoints that all processes write together, while the training goes on."""

from __future__ import annotations

import io
import os
import pathlib
import pickle
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import ReadItem, SavePlan
from torch.distributed.checkpoint.storage import WriteResult

from torchopt_ref.errors import UserError, first_line

from ..distributed import Processes
from ..state import TrainingState
from .canonical import canonical
from .files import Checkpoints, digest_of, remove, sync_folder

WEIGHTS = ("model", "optimizer", "ema")
WHOLE = "training.pt"
"""The file that holds what is not sharded."""


class ShardedCheckpoints(Checkpoints):
    """Folders in the format of ``torch.distributed.checkpoint``, written in the background.

    ``save`` copies the state and returns. When every process has written its part, the first one
    renames the folder; before that the checkpoint is not there. Any number of processes can read
    it, and ``python -m torch.distributed.checkpoint.format_utils dcp_to_torch`` makes one
    file of its weights.
    """

    suffix = ""

    def __init__(
        self,
        folder: Path,
        keep: int,
        processes: Processes,
        options: Mapping[str, Any],
        timeout: int,
    ) -> None:
        super().__init__(folder, keep, processes, options)
        # A group of its own: the training exchanges tensors at the same time, in another thread.
        self._group: Any = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self._pending: Any = None
        self._step = 0

    def __exit__(self, *error: object) -> None:
        self.wait()

    def save(self, state: Mapping[str, Any], step: int, best: bool) -> None:
        self.wait()
        self._step = step
        self.failure: str = ""
        state = canonical({**state, "options": self.options})
        whole = {key: value for key, value in state.items() if key not in WEIGHTS}
        writer = Writer(self.partial, whole, lambda digest: self.commit(digest, step, best))
        self._pending = dcp.async_save(
            {key: state[key] for key in WEIGHTS}, storage_writer=writer, process_group=self._group
        )

    def read(self, path: Path, training: TrainingState) -> dict[str, Any]:
        reader = SafeReader(path)
        reader.read_metadata()  # once before dcp.load, which prints a traceback of an error
        weights = training.weights()
        try:
            dcp.load(
                weights,
                storage_reader=reader,
                planner=SafePlanner(),
                process_group=self._group,
            )
        except CheckpointException as error:
            raise UserError(f"cannot read {path}: {reasons(error)}") from error
        return weights | torch.load(path / WHOLE, weights_only=True)

    def read_last(self, training: TrainingState) -> dict[str, Any] | None:
        self.wait()
        return super().read_last(training)

    def wait(self) -> None:
        """Wait until the last checkpoint is written, or has failed."""
        pending, self._pending = self._pending, None
        try:
            if pending:
                pending.result()
        except CheckpointException as error:
            if self.processes.first:
                # torch hides what the file system said.
                why = f"writing failed, perhaps for want of room ({reasons(error)})"
                self.give_up(self._step, why)


def reasons(error: CheckpointException) -> str:
    """What went wrong in each process, in one line."""
    said = {first_line(failure[0]) for failure in error.failures.values()}
    return "; ".join(sorted(said))


class Writer(dcp.FileSystemWriter):
    """Writes the parts and ``whole`` into ``partial``, then calls ``commit`` with the digest."""

    def __init__(
        self, partial: Path, whole: Mapping[str, Any], commit: Callable[[str], None]
    ) -> None:
        super().__init__(partial)
        self._whole, self._commit = whole, commit

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        self._first = is_coordinator
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        if not self._first:  # the first process empties the folder before any process writes
            return plan
        remove(Path(self.path))
        return super().prepare_local_plan(plan)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        super().finish(metadata, results)
        folder = Path(self.path)
        with (folder / WHOLE).open("xb") as file:
            torch.save(self._whole, file)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
        self._commit(digest_of(folder))


class SafePlanner(DefaultLoadPlanner):
    """Reads plain values, such as a learning rate, by ``weights_only``. torch's own planner
    unpickles anything that the file holds."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)


class SafeReader(dcp.FileSystemReader):
    """Reads the file ``.metadata``, a pickle, without running code that is in it."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        folder = Path(self.path)
        try:
            found = MetadataUnpickler(io.BytesIO((folder / ".metadata").read_bytes())).load()
            places = [Path(each.relative_path) for each in found.storage_data.values()]
        except Exception as error:
            raise UserError(
                f"{folder / '.metadata'} is not what a checkpoint has ({error}): delete {folder}"
            ) from error
        for place in places:
            if place.name != str(place):
                raise UserError(f"{folder} refers to {place}, outside of itself: delete it")
        found.storage_meta = found.storage_meta or metadata.StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found


class MetadataUnpickler(pickle._Unpickler):
    """Finds only the classes that ``.metadata`` is made of, which do no more than hold values.

    It derives from Python's unpickler in Python, because the one in C cannot be kept from writing
    attributes of classes, by which a pickle could change torch.
    """

    KNOWN: ClassVar = {
        (cls.__module__, cls.__name__): cls
        for cls in (
            metadata.Metadata,
            metadata.MetadataIndex,
            metadata.ChunkStorageMetadata,
            metadata.TensorStorageMetadata,
            metadata.BytesStorageMetadata,
            metadata.TensorProperties,
            metadata.StorageMeta,
            metadata._MEM_FORMAT_ENCODING,
            filesystem._StorageInfo,
            torch.Size,
        )
    } | {("torch.serialization", "_get_layout"): torch.serialization._get_layout}
    # In Python 3.13 paths have another module, and checkpoints go from one version to another.
    KNOWN |= {
        (module, name): getattr(pathlib, name)
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath")
    }

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return self.KNOWN[module, name]

    def load_build(self) -> None:
        if isinstance(self.stack[-2], type):  # type: ignore[attr-defined]
            raise pickle.UnpicklingError("it writes attributes of a class")
        super().load_build()  # type: ignore[misc]

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
    }
