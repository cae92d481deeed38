"""What a site keeps of a training that is under way, so that one that was cut off goes on as if nothing had happened.

A checkpoint is plain arrays and one JSON text in a zip file; nothing in it is ever run.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from atoll import whole_files
from atoll.core.errors import InputError
from atoll.learn.horizontal.networks.algorithms import State
from atoll.learn.horizontal.networks.averages import F32


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all sites know of a round that is done.

    Attributes:
        number: from 1.
        metrics: sums over all sites' held-out rows divided by their number; empty if not asked for.
        train_loss: mean over the rows of the sites that were drawn; None if not asked for.
        weight: sum of these sites' weights.
    """

    number: int
    metrics: dict[str, float]
    train_loss: float | None
    weight: float


@dataclass
class Progress:
    """One site's side after some rounds.

    Attributes:
        run: hash of network, algorithm and plan; 32 bytes.
        seed: the common seed, 16 bytes.
        model: (n,) float32, all that sites share.
        own: float32, the network's numbers that stay here.
        state: vectors of the algorithm.
        rounds: those that are done.
    """

    run: bytes
    seed: bytes
    model: F32
    own: F32
    state: State = field(default_factory=State)
    rounds: list[Round] = field(default_factory=list)


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    run: bytes
    seed: bytes
    rounds: list[Round]


@dataclass(frozen=True)
class Keeper:
    """Keeps a site's side in two files in turn: sites that were cut off may be a round apart.

    Args:
        folder: a folder of this site and job; it is made if it is missing.
    """

    folder: Path

    def keep(self, progress: Progress) -> None:
        """Write a side, whole or not at all.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = {"model": progress.model, "own": progress.own}
        arrays |= {f"shared.{name}": value for name, value in progress.state.shared.items()}
        arrays |= {f"own.{name}": value for name, value in progress.state.own.items()}
        facts = _Facts(progress.run, progress.seed, progress.rounds)
        text = io.BytesIO()
        np.savez(text, facts=np.frombuffer(msgspec.json.encode(facts), np.uint8), **arrays)  # type: ignore[arg-type]
        whole_files.write(self._path(len(progress.rounds)), text.getvalue())

    def read(self, run: bytes) -> dict[int, Progress]:
        """Return what is kept of this run, by the number of rounds done.

        Raises:
            InputError: a file is damaged.
        """
        found = [_read(self._path(turn)) for turn in (0, 1) if self._path(turn).exists()]
        return {len(one.rounds): one for one in found if one.run == run}

    def _path(self, rounds: int) -> Path:
        return self.folder / f"networks-{rounds % 2}.npz"


def _read(path: Path) -> Progress:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = msgspec.json.decode(arrays.pop("facts").tobytes(), type=_Facts)
        if any(value.dtype != np.float32 or value.ndim != 1 for value in arrays.values()):
            raise ValueError("an array is not a vector of float32")
        state = State(
            {name.removeprefix("shared."): arrays[name] for name in arrays if name.startswith("shared.")},
            {name.removeprefix("own."): arrays[name] for name in arrays if name.startswith("own.")},
        )
        return Progress(facts.run, facts.seed, arrays["model"], arrays["own"], state, facts.rounds)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError) as cause:
        raise InputError(
            "what an earlier try kept of the network is damaged",
            step="networks",
            detail=f"{path}: {cause}.",
            cure="Remove the file and run the job again.",
        ) from None
