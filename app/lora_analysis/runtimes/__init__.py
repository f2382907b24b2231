"""What programs that apply adapters would misread or refuse, asked before the adapter is shipped to them.

One file per program; a new one is a file and a line in ``RUNTIMES``. Rules are those of the versions each file names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..adapter import Adapter
from ..errors import OptionError
from . import comfyui, diffusers, llama_cpp, vllm
from .misreading import Misreading

__all__ = ["RUNTIMES", "Misreading", "check_for"]

RUNTIMES: Mapping[str, Callable[[Adapter], Iterator[Misreading]]] = {
    "vllm": vllm.check,
    "llama.cpp": llama_cpp.check,
    "diffusers": diffusers.check,
    "comfyui": comfyui.check,
}


def check_for(runtime: str, adapter: Adapter) -> list[Misreading]:
    """Everything the runtime would read otherwise than it is meant, or not at all. Reads headers only.

    Raises: OptionError for a runtime without rules.
    """
    if runtime not in RUNTIMES:
        raise OptionError(f"no rules for {runtime!r}; there are {', '.join(RUNTIMES)}")
    return list(RUNTIMES[runtime](adapter))
