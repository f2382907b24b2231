"""The layers that change the base model most: Frobenius norms of the deltas, largest first.

python examples/largest_layers.py FILE
"""

from __future__ import annotations

import sys

import numpy as np

import lora_analysis as la


def main(path: str) -> None:
    """Ten lines: norm, rank and name."""
    with la.open(path) as adapter:
        layers = [layer for layer in adapter.layers.values() if layer.opaque is None]
        norms = [(float(np.linalg.norm(la.materialise(layer, "float32"))), layer) for layer in layers]
    for norm, layer in sorted(norms, key=lambda pair: pair[0], reverse=True)[:10]:
        print(f"{norm:8.4f}  rank {layer.rank or '-':>3}  {layer.name}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo-library/sdxl-style-loha.safetensors")
