"""Networks described as data: what a job can name, made in PyTorch to be trained and read with NumPy to be used."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.torch_trainer import torch

Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Side = Annotated[int, msgspec.Meta(ge=2, le=1024)]

MOST = 1 << 26
"""Most numbers of a network."""

ROWS_AT_ONCE = 1024

SHAPES = "hidden", "activation", "dropout", "image", "filters"
"""What a job says of a network; how many numbers go in and come out follows from the columns."""


class Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Convolutions if the inputs are pixels, then dense layers, the last one without an activation.

    A convolution has windows of 3 by 3 with a border of zeros; its activation and a maximum over 2 by 2 come after it.

    Args:
        inputs: numbers that go in.
        outputs: numbers that come out.
        hidden: sizes of the dense layers before the last one.
        activation: after every layer but the last.
        dropout: share of the numbers after every hidden dense layer that training sets to 0.
        image: height and width, if the inputs are grey values, row by row; else nothing.
        filters: outputs of each convolution; an image needs one at least.
    """

    inputs: Size
    outputs: Size
    hidden: tuple[Size, ...] = (32,)
    activation: Literal["relu", "tanh"] = "relu"
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    image: tuple[Side, Side] | None = None
    filters: tuple[Size, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.filters) != (self.image is not None):
            raise _wrong("`image` and `filters` go together", "Give both, or neither.")
        if self.image is not None:
            if math.prod(self.image) != self.inputs:
                height, width = self.image
                raise _wrong(
                    f"an image of {height} by {width} has {height * width:,} pixels, and there are {self.inputs:,} "
                    "columns",
                    "Name the pixels under `columns:`, row by row, or correct `image`.",
                )
            if min(self.image) >> len(self.filters) == 0:
                raise _wrong("every convolution halves the image, and nothing is left", "Name fewer `filters`.")
        if sum(map(math.prod, self.shapes().values())) > MOST:
            raise _wrong(f"the network has more than {MOST:,} numbers", "Make its layers smaller.")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array of numbers by its name, in PyTorch's order."""
        found: dict[str, tuple[int, ...]] = {}
        channels, width = 1, self.inputs
        for at, many in enumerate(self.filters):
            found |= {f"filters{at}.weight": (many, channels, 3, 3), f"filters{at}.bias": (many,)}
            channels = many
        if self.image is not None:
            width = channels * math.prod(side >> len(self.filters) for side in self.image)
        for at, many in enumerate((*self.hidden, self.outputs)):
            found |= {f"dense{at}.weight": (many, width), f"dense{at}.bias": (many,)}
            width = many
        return found

    def split(self, vector: F32) -> dict[str, F32]:
        """Return a trainer's vector as arrays by name."""
        shapes = self.shapes()
        parts = np.split(vector, np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
        return {name: part.reshape(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}


def module(network: Described, seed: int) -> Any:
    """Return a PyTorch module with numbers drawn as PyTorch does.

    Raises:
        InputError: PyTorch is not installed.
    """
    nn = torch().nn
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[network.activation]
    layers: OrderedDict[str, Any] = OrderedDict()
    with torch().random.fork_rng(devices=[]):
        torch().manual_seed(seed)
        if network.image is not None:
            layers["image"] = nn.Unflatten(1, (1, *network.image))
        shapes, last = network.shapes(), f"dense{len(network.hidden)}"
        for name in (name.removesuffix(".weight") for name in shapes if name.endswith(".weight")):
            outputs, inputs = shapes[f"{name}.weight"][:2]
            if name.startswith("filters"):
                layers[name] = nn.Conv2d(inputs, outputs, 3, padding=1)
                layers |= {f"{name} activation": activation(), f"{name} maximum": nn.MaxPool2d(2)}
                continue
            if name == "dense0":
                layers["flat"] = nn.Flatten()
            layers[name] = nn.Linear(inputs, outputs)
            if name != last:
                layers |= {f"{name} activation": activation(), f"{name} dropout": nn.Dropout(network.dropout)}
        return nn.Sequential(layers)


def scores(network: Described, weights: Mapping[str, F32], X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what comes out for rows, without PyTorch.

    Args:
        network: the network.
        weights: its arrays by name, see `Described.shapes`.
        X: (n, inputs) float64.

    Returns:
        (n, outputs) float64.
    """
    parts = [
        _forward(network, weights, X[at : at + ROWS_AT_ONCE]) for at in range(0, max(len(X), 1), ROWS_AT_ONCE)
    ]  # fmt: skip
    return np.concatenate(parts)


def _forward(network: Described, weights: Mapping[str, F32], X: NDArray[np.float64]) -> NDArray[np.float64]:
    def active(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(values, 0.0) if network.activation == "relu" else np.tanh(values)

    here = X if network.image is None else X.reshape(-1, 1, *network.image)
    for at in range(len(network.filters)):
        padded = np.pad(here, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = sliding_window_view(padded, (3, 3), axis=(2, 3))  # (n, channels, height, width, 3, 3)
        out = np.tensordot(windows, weights[f"filters{at}.weight"].astype(np.float64), ((1, 4, 5), (1, 2, 3)))
        here = _halved(active(np.moveaxis(out + weights[f"filters{at}.bias"], 3, 1)))
    here = here.reshape(len(X), network.shapes()["dense0.weight"][1])
    for at in range(len(network.hidden) + 1):
        here = here @ weights[f"dense{at}.weight"].T.astype(np.float64) + weights[f"dense{at}.bias"]
        here = active(here) if at < len(network.hidden) else here
    return here


def _halved(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The maximum over 2 by 2 places of (n, channels, height, width); an odd row or column is left out."""
    n, channels, height, width = values.shape
    cut = values[:, :, : height // 2 * 2, : width // 2 * 2]
    found: NDArray[np.float64] = cut.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
    return found


def _wrong(what: str, cure: str) -> InputError:
    return InputError(what, step="networks", cure=cure)
