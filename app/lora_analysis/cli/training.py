"""How an adapter was made, in a few lines: who, when, how far, with what, on which images."""

from __future__ import annotations

from typing import Any

from . import wording


def training_lines(document: dict[str, Any]) -> list[str]:
    """At most four lines; none where the header says nothing about training."""
    facts = document["training_info"]
    lines = [_who(facts, document["model_info"]), _how_far(facts), _with_what(facts), _on_what(facts)]
    return [line for line in lines if line]


def _who(facts: dict[str, Any], model: dict[str, Any]) -> str:
    version = str(facts["trainer_version"] or facts["revision"] or "")
    trainer = " ".join(part for part in (facts["trainer"], version[:12]) if part)
    day = str(facts["started_at"] or model["date"] or "")[:10]
    took = facts["training_seconds"]
    return wording.sentence([trainer, day, f"took {wording.duration(took)}" if took else None])


def _how_far(facts: dict[str, Any]) -> str:
    return wording.sentence(
        [
            _of("step", facts["steps"], facts["max_steps"]),
            _of("epoch", facts["epoch"], facts["num_epochs"]),
            f"batch {facts['batch_size']}" if facts["batch_size"] else None,
            f"seed {facts['seed']}" if facts["seed"] is not None else None,
            facts["mixed_precision"],
        ]
    )


def _of(what: str, done: int | None, planned: int | None) -> str | None:
    """``step 1,640 of 2,050``, or ``10 epochs`` where only the plan is known."""
    if done is None:
        return wording.quantity(planned, what) if planned else None
    return f"{what} {done:,}" + (f" of {planned:,}" if planned else "")


def _with_what(facts: dict[str, Any]) -> str:
    encoder, network = facts["text_encoder_lr"], facts["unet_lr"]
    rate = network if network is not None else facts["learning_rate"]
    return wording.sentence(
        [
            str(facts["optimizer"] or ""),
            f"lr {wording.rates(rate)}" if rate is not None else None,
            f"text encoder lr {wording.rates(encoder)}" if encoder is not None else None,
            str(facts["scheduler"] or ""),
            f"dropout {facts['dropout']:g}" if facts["dropout"] else None,
            f"min SNR gamma {facts['min_snr_gamma']:g}" if facts["min_snr_gamma"] else None,
            f"noise offset {facts['noise_offset']:g}" if facts["noise_offset"] else None,
        ]
    )


def _on_what(facts: dict[str, Any]) -> str:
    distinct, seen = facts["distinct_images"], facts["images"]
    images = wording.quantity(distinct, "image") if distinct else None
    if seen:
        images = f"{images}, {seen:,} with repeats" if images else wording.quantity(seen, "image")
    resolution = facts["resolution"]
    buckets = len((facts["bucket_info"] or {}).get("buckets") or ())
    return wording.sentence(
        [
            images,
            "×".join(map(str, resolution)) if resolution else None,
            wording.quantity(buckets, "bucket") if buckets else None,
        ]
    )
