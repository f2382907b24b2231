"""Other ways to do what ``lora resize`` does, each run as a process of its own by ``resize.py``.

    python benchmarks/baselines.py WAY ADAPTER RANK OUT

``floor``   read, widen, two Gram products, one eigenproblem, two products, narrow, write: nothing else. No checks, no
            hashes, no header, no error measured, large products in float32; not a usable resize. Widening, narrowing
            and the keeping of memory are those of ``lora resize``: numpy's own casts are several times slower.
``qr``      the same loop with Householder QR of both factors and the SVD of the small core.
``dense``   what most scripts do: the SVD of every dense delta, in float32 on all cores. One layer of each shape is
            decomposed, and its time counted for every layer of the shape; the seconds are printed.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

import lora_analysis as la
from lora_analysis.adapter import Adapter, Layer
from lora_analysis.cli.memory import keep_freed_memory
from lora_analysis.formats.encoding import encode
from lora_analysis.linalg.floats import widen
from lora_analysis.linalg.streams import map_layers

Factors = tuple[np.ndarray, np.ndarray]  # up (out, rank), down (rank, in * k)


def main() -> None:
    way, path, rank, out = sys.argv[1:]
    with la.open(path) as adapter:
        if way == "dense":
            print(dense(adapter, int(rank)))
        else:
            stream(adapter, int(rank), Path(out), {"floor": gram, "qr": householder}[way])


def stream(adapter: Adapter, rank: int, out: Path, truncate: Callable[[np.ndarray, np.ndarray, int], Factors]) -> None:
    """Every layer in turn, in as many threads as there are cores, written in the order of the file."""

    def work(layer: Layer) -> list[np.ndarray]:
        down, up = (adapter.source.array(layer.keys[role]) for role in ("down", "up"))
        new = truncate(up.reshape(up.shape[0], -1), down.reshape(down.shape[0], -1), rank)
        return [encode(factor, adapter.source.tensors[layer.keys["up"]].dtype, layer.name) for factor in new]

    keep_freed_memory()
    with out.open("wb") as file:
        for factors in map_layers(work, adapter.layers.values()):
            for factor in factors:
                file.write(np.ascontiguousarray(factor).reshape(-1).view(np.uint8).data)


def gram(up: np.ndarray, down: np.ndarray, rank: int) -> Factors:
    """From one eigenproblem of the size of the old rank."""
    wide_up, wide_down = widen(up, "float32"), widen(down, "float32")
    lower = np.linalg.cholesky((wide_down @ wide_down.T).astype(np.float64))
    values, vectors = np.linalg.eigh(lower.T @ (wide_up.T @ wide_up).astype(np.float64) @ lower)
    kept, roots = vectors[:, : -rank - 1 : -1], values[: -rank - 1 : -1] ** 0.25
    left = (lower @ kept / roots).astype(np.float32)
    right = (np.linalg.solve(lower.T, kept) * roots).astype(np.float32)
    return wide_up @ left, right.T @ wide_down


def householder(up: np.ndarray, down: np.ndarray, rank: int) -> Factors:
    """From QR of both factors."""
    q_up, r_up = np.linalg.qr(widen(up, "float32"))
    q_down, r_down = np.linalg.qr(widen(down, "float32").T)
    u, s, vt = np.linalg.svd(r_up @ r_down.T)
    roots = np.sqrt(s[:rank])
    return q_up @ (u[:, :rank] * roots), (vt[:rank] * roots[:, None]) @ q_down.T


def dense(adapter: Adapter, rank: int) -> float:
    """Seconds for all layers, from one layer of each shape."""
    layers = {matrix_shape(layer): layer for layer in adapter.layers.values()}
    counts = Counter(matrix_shape(layer) for layer in adapter.layers.values())
    seconds = 0.0
    for shape, layer in layers.items():
        started = time.perf_counter()
        delta = la.materialise(layer, "float32").reshape(shape)
        u, s, vt = np.linalg.svd(delta, full_matrices=False)
        u[:, :rank] * s[:rank], vt[:rank]
        seconds += counts[shape] * (time.perf_counter() - started)
    return seconds


def matrix_shape(layer: Layer) -> tuple[int, int]:
    assert layer.shape is not None
    return layer.shape[0], prod(layer.shape[1:])


if __name__ == "__main__":
    main()
