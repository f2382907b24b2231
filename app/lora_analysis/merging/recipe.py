"""The recipe of a merge, kept in the output's header: enough to make the same adapter again from the same inputs.

Inputs are known by the SHA-256 of their data and by their names, not by paths: a path can name a person.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..adapter import Adapter
from ..errors import FormatError, LoraAnalysisError, OptionError
from ..formats import open_adapter
from ..formats.strict_json import dumps, loads
from ..resizing.provenance import data_sha256
from .inputs import MergeInput
from .options import BaseRecord, MergeOptions, merge_options

RECIPE_KEY = "lora_analysis.recipe"
_FORMAT = 1
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".gguf")


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One input, as the recipe names it."""

    name: str
    sha256: str  # of the data, 64 hex digits
    weight: float  # as it was asked for
    layer_weights: Any  # as ``layer_weights_of`` reads them, or None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was merged, and how."""

    version: str  # of this program
    options: Mapping[str, Any]  # keywords of ``merge_options``
    inputs: tuple[Ingredient, ...]
    base: BaseRecord | None = None  # the checkpoint for DoRA inputs

    def merge_options(self) -> MergeOptions:
        """Raises: OptionError where the options are not (or no longer) known."""
        return merge_options(**self.options)

    @property
    def weights(self) -> list[float]:
        return [one.weight for one in self.inputs]

    @property
    def layer_weights(self) -> list[Any]:
        return [one.layer_weights for one in self.inputs]


def recipe_text(inputs: Sequence[MergeInput], options: MergeOptions, digests: Sequence[str]) -> str | None:
    """The header's value; None where the options were not given in words that can be written down."""
    keywords = options.keywords()
    if keywords is None:
        return None
    listed = [
        {"name": item.name, "sha256": digest, "weight": item.requested_weight}
        | ({} if item.layer_weights is None else {"layer_weights": item.layer_weights.to_json()})
        for item, digest in zip(inputs, digests, strict=True)
    ]
    base = {} if options.base is None else {"base": options.base._asdict()}
    return dumps({"format": _FORMAT, "version": __version__, "options": keywords, **base, "inputs": listed})


def read_recipe(adapter: Adapter) -> Recipe:
    """The recipe in an adapter's header. Raises: OptionError where there is none, FormatError where it is damaged."""
    text = adapter.metadata.get(RECIPE_KEY)
    if not isinstance(text, str):
        raise OptionError(f"{adapter.path}: the header holds no recipe of a merge")
    document = loads(text, what=RECIPE_KEY)
    try:
        if document["format"] != _FORMAT:
            raise OptionError(f"{adapter.path}: its recipe is of a format that this program does not know")
        inputs = tuple(
            Ingredient(str(one["name"]), _digest(one["sha256"]), float(one["weight"]), one.get("layer_weights"))
            for one in document["inputs"]
        )
        options = {str(key): value for key, value in document["options"].items()}
        base = document.get("base")
        record = None if base is None else BaseRecord(str(base["name"]), _digest(base["sha256"]))
        return Recipe(str(document["version"]), options, inputs, record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, LoraAnalysisError):
            raise
        raise FormatError(f"{adapter.path}: its recipe is damaged ({error})") from error


def _digest(value: Any) -> str:
    if not (isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")):
        raise ValueError("a digest is no SHA-256")
    return value


def find_inputs(
    recipe: Recipe,
    given: Iterable[str | os.PathLike[str]],
    folders: Iterable[str | os.PathLike[str]],
    *,
    cancel: Callable[[], bool] | None = None,
) -> list[Path]:
    """The files of a recipe's inputs, in its order: among ``given``, and by their names in ``folders``.

    Raises: OptionError that says which input is missing, and which has the name but other data.
    """
    candidates = [*map(Path, given)]
    wanted = {one.name for one in recipe.inputs}
    for folder in map(Path, folders):
        candidates += [folder / name for name in sorted(wanted) if _is_plain(name) and (folder / name).exists()]
    digests = _digests(candidates, cancel or (lambda: False))
    found, problems = [], []
    for one in recipe.inputs:
        match = next((path for path, digest in digests.items() if digest == one.sha256), None)
        if match is not None:
            found.append(match)
        elif any(path.name == one.name or path.parent.name == one.name for path in digests):
            problems.append(f"{one.name} is there, but its data has changed")
        else:
            problems.append(f"{one.name} is missing (SHA-256 {one.sha256[:12]}...)")
    if problems:
        raise OptionError("; ".join(problems) + "; name the files, or put them beside the merged one")
    return found


def find_base(
    recipe: Recipe, given: str | os.PathLike[str] | None, folders: Iterable[str | os.PathLike[str]]
) -> Path | None:
    """The checkpoint of a recipe: as given, else by its name in ``folders``; None where there was none.

    Raises: OptionError where it is missing. Whether it is the same shows when its weights are read.
    """
    if recipe.base is None:
        return None
    name = recipe.base.name
    places = [] if given is None else [Path(given)]
    places += [Path(folder) / name for folder in folders if _is_plain(name)]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise OptionError(f"the base checkpoint {name} is missing; name it with --base")
    return found


def _is_plain(name: str) -> bool:
    """Whether a name from a stranger's header is that of something inside a folder."""
    return name not in ("", ".", "..") and not any(mark in name for mark in ("/", "\\", ":", "\0"))


def _digests(paths: Iterable[Path], cancel: Callable[[], bool]) -> dict[Path, str]:
    """SHA-256 of the data of every adapter among the paths; what is none is left out."""
    found = {}
    for path in dict.fromkeys(paths):
        if not path.is_dir() and path.suffix.lower() not in _SUFFIXES:
            continue
        with open_adapter(path, lenient_metadata=True) as adapter:
            found[path] = data_sha256(adapter.source, cancel)
    return found
