"""A base model as adapters name it: its denoiser, its text encoders, and the prefixes that tell them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .table import Held, Style, Table

Dialect = Literal["kohya", "diffusers", "peft", "comfyui", "native"]
DIALECTS: tuple[Dialect, ...] = ("kohya", "diffusers", "peft", "comfyui", "native")
_PEFT = "base_model.model."
_SLOTS = ("te1", "te2", "te3", "te")
_TRAINER_PREFIXES = ("lora_", "oft_", "lycoris_")
# Of the network itself. Longest first: "lora_unet__" before "lora_unet_".
_DENOISER_PREFIXES = (
    "lora_transformer_",
    "lora_unet_unet_",
    "lora_unet__",
    "lora_unet_",
    "oft_unet_",
    "lycoris_unet_",
    "lycoris_",
    "model.diffusion_model.",
    "diffusion_model.",
)


class Encoder(NamedTuple):
    """A text encoder: the component it is in diffusers' pipeline, and what others call it."""

    component: str  # "text_encoder_2"
    table: Table
    slot: str  # kohya's: "te2"
    comfyui: str  # "clip_g"
    other_slots: tuple[str, ...] = ()  # of tools that count otherwise
    checkpoint: tuple[str, ...] = ()  # prefixes in a single-file checkpoint


class Place(NamedTuple):
    """A component of the pipeline, its names, and what is left of a name without the prefix."""

    component: str
    table: Table
    rest: str


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything needed to read or write a module's name for one base model."""

    denoiser: Table
    component: str = "transformer"  # what diffusers calls the denoiser
    kohya: Style = "kohya"  # the style that kohya's trainers take their names from
    encoders: tuple[Encoder, ...] = ()

    def read(self, name: str) -> Held | None:
        """The canonical modules that the weight called ``name`` holds, with their component in front."""
        bare = name.removeprefix(_PEFT)
        return _read(name, self._places(bare)) or self._read_encoder(name, bare)

    def _read_encoder(self, name: str, bare: str) -> Held | None:
        """A text encoder's own names with no prefix, as in a checkpoint of it alone: only where one can be meant."""
        found = [_read(name, [Place(one.component, one.table, bare)]) for one in self.encoders]
        known = [held for held in found if held is not None]
        return known[0] if len(known) == 1 else None

    def spell(self, module: str, dialect: Dialect) -> Held | None:
        """The weight that holds a canonical module in ``dialect``; None where it has no name for it.

        PEFT's own names have no component: only one component of a model can be spelled so in one folder.
        """
        component, _, rest = module.partition(".")
        table = self._table(component)
        if table is None:
            return None
        held = table.spell(rest, self._style(component, dialect))
        if held is None:
            return None
        modules = tuple(f"{component}.{part}" for part in held.modules)
        return Held(self._named(component, held.name, dialect), modules, held.shares)

    def _table(self, component: str) -> Table | None:
        if component in (self.component, f"{self.component}_2"):
            return self.denoiser
        return next((encoder.table for encoder in self.encoders if encoder.component == component), None)

    def _style(self, component: str, dialect: Dialect) -> Style:
        if dialect in ("diffusers", "peft"):
            return "diffusers"
        if dialect == "kohya":
            return self.kohya if component.startswith(self.component) else "kohya"
        return "native"

    def _named(self, component: str, rest: str, dialect: Dialect) -> str:
        encoder = next((one for one in self.encoders if one.component == component), None)
        match dialect:
            case "kohya":
                return f"lora_{encoder.slot if encoder else 'unet'}_{rest.replace('.', '_')}"
            case "diffusers":
                return f"{component}.{rest}"
            case "peft":
                return _PEFT + rest
            case "comfyui":
                return f"text_encoders.{encoder.comfyui}.transformer.{rest}" if encoder else f"diffusion_model.{rest}"
        return rest

    # -- prefixes ------------------------------------------------------------------------------------

    def _places(self, name: str) -> list[Place]:
        """Where a name can belong, the most particular reading first."""
        found = self._encoder_places(name)
        if found:
            return found
        for component in (f"{self.component}_2", self.component):
            if name.startswith(f"{component}."):
                return [Place(component, self.denoiser, name[len(component) + 1 :])]
        for prefix in _DENOISER_PREFIXES:
            if name.startswith(prefix):
                return [Place(self.component, self.denoiser, name[len(prefix) :])]
        return [Place(self.component, self.denoiser, name)]

    def _encoder_places(self, name: str) -> list[Place]:
        slot = _slot(name)
        found = []
        for encoder in self.encoders:
            prefixes = (f"{encoder.component}.", *encoder.checkpoint)
            for prefix in (*prefixes, *(f"text_encoders.{encoder.comfyui}.{inner}" for inner in ("transformer.", ""))):
                if name.startswith(prefix):
                    found.append(Place(encoder.component, encoder.table, name[len(prefix) :]))
                    break
            if slot and slot.name in (encoder.slot, *encoder.other_slots):
                found.append(Place(encoder.component, encoder.table, slot.rest))
        return found


def _read(name: str, places: list[Place]) -> Held | None:
    for place in places:
        held = place.table.read(place.rest)
        if held is not None:
            modules = tuple(f"{place.component}.{module}" for module in held.modules)
            return Held(name, modules, held.shares)
    return None


class _Slot(NamedTuple):
    name: str
    rest: str


def _slot(name: str) -> _Slot | None:
    """kohya's number of a text encoder, and the rest of the name."""
    for prefix in _TRAINER_PREFIXES:
        if name.startswith(prefix):
            for slot in _SLOTS:
                for mark in ("_", "."):  # "lora_te." occurs in one trainer
                    start = f"{prefix}{slot}{mark}"
                    if name.startswith(start):
                        return _Slot(slot, name[len(start) :])
    return None
