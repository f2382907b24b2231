"""The data set part of ``ss_*``: folders, resolutions, buckets and tag counts."""

from __future__ import annotations

import ntpath
from collections.abc import Iterable, Mapping
from typing import Any

from . import values
from .draft import Draft
from .values import UnreadableError

TOP_TAGS = 20
_MAX_DATASETS = 1_000

# header name -> ours, for what a data set says about itself
_FIELDS = {
    "resolution": "resolution",
    "batch_size_per_device": "batch_size",
    "num_train_images": "images",
    "num_reg_images": "reg_images",
    "num_repeats": "repeats",
    "is_dreambooth": "is_dreambooth",
    "enable_bucket": "enable_bucket",
    "min_bucket_reso": "min_bucket_resolution",
    "max_bucket_reso": "max_bucket_resolution",
    "caption_extension": "caption_extension",
    "target_frames": "target_frames",
    "frame_extraction": "frame_extraction",
    "frame_stride": "frame_stride",
    "frame_sample": "frame_sample",
    "source_fps": "source_fps",
}
_DIRECTORIES = ("image_directory", "image_jsonl_file", "video_directory", "video_jsonl_file")
_SUBSET_FIELDS = {
    "img_count": "images",
    "num_repeats": "repeats",
    "class_tokens": "class_tokens",
    "is_reg": "is_reg",
    "keep_tokens": "keep_tokens",
    "shuffle_caption": "shuffle_caption",
    "flip_aug": "flip_aug",
    "color_aug": "color_aug",
    "random_crop": "random_crop",
}


def read_datasets(draft: Draft, metadata: Mapping[str, Any]) -> None:
    """State what is known about the images or videos, from the list of data sets and the older single keys."""
    listed = draft.read(metadata, "ss_datasets", values.sequence) or []
    entries = [entry for entry in listed[:_MAX_DATASETS] if isinstance(entry, Mapping)]
    first = entries[0] if entries else {}
    draft.state(
        datasets=tuple(_described(entry) for entry in entries) or None,
        resolution=draft.parsed("resolution in ss_datasets", first.get("resolution"), values.size),
        batch_size=draft.parsed("batch_size_per_device", first.get("batch_size_per_device"), values.count),
        enable_bucket=draft.parsed("enable_bucket", first.get("enable_bucket"), values.flag),
    )
    _read_counts(draft, metadata, entries)
    _read_folders(draft, metadata)
    draft.state(bucket_info=draft.read(metadata, "ss_bucket_info", values.mapping))
    _read_tags(draft, metadata, entries)


def _described(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One data set without its tag and bucket lists, which are shown elsewhere."""
    found = {ours: entry[key] for key, ours in _FIELDS.items() if entry.get(key) is not None}
    for key in _DIRECTORIES:
        if isinstance(entry.get(key), str):
            found[key] = _folder_name(entry[key])
    subsets = entry.get("subsets")
    if isinstance(subsets, list):
        found["subsets"] = [_subset(subset) for subset in subsets[:_MAX_DATASETS] if isinstance(subset, Mapping)]
    return found


def _subset(subset: Mapping[str, Any]) -> dict[str, Any]:
    found = {ours: subset[key] for key, ours in _SUBSET_FIELDS.items() if subset.get(key) is not None}
    if isinstance(subset.get("image_dir"), str):
        found["folder"] = _folder_name(subset["image_dir"])
    return found


def _folder_name(path: str) -> str:
    """The last part of a path of either system; the rest is somebody's disk."""
    return ntpath.basename(path.rstrip("/\\")) or path


def _read_counts(draft: Draft, metadata: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> None:
    read = draft.read
    draft.state(
        images=read(metadata, "ss_num_train_images", values.count),
        reg_images=read(metadata, "ss_num_reg_images", values.count),
        batches_per_epoch=read(metadata, "ss_num_batches_per_epoch", values.count),
        resolution=read(metadata, "ss_resolution", values.size),
        batch_size=read(metadata, "ss_batch_size_per_device", values.count),
        enable_bucket=read(metadata, "ss_enable_bucket", values.flag),
    )
    draft.state(
        images=read(metadata, "ss_num_train_items", values.count),
        batch_size=read(metadata, "ss_total_batch_size", values.count),
    )
    if draft.facts.get("images") is None:
        counts = [draft.parsed("num_train_images", entry.get("num_train_images"), values.count) for entry in entries]
        draft.state(images=sum(count for count in counts if count) or None)


def _read_folders(draft: Draft, metadata: Mapping[str, Any]) -> None:
    folders: dict[str, dict[str, Any]] = {}
    for key, is_reg in (("ss_dataset_dirs", False), ("ss_reg_dataset_dirs", True)):
        for folder, entry in (draft.read(metadata, key, values.mapping) or {}).items():
            if isinstance(entry, Mapping):
                name = f"{key}[{folder}]"
                folders[str(folder)] = {
                    "repeats": draft.parsed(name, entry.get("n_repeats"), values.count),
                    "images": draft.parsed(name, entry.get("img_count"), values.count),
                    "is_reg": is_reg,
                }
    counts = [folder["images"] for folder in folders.values() if not folder["is_reg"] and folder["images"]]
    draft.state(dataset_folders=folders or None, distinct_images=sum(counts) or None)


# -- tags --------------------------------------------------------------------------------------------


def _read_tags(draft: Draft, metadata: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> None:
    stated = draft.read(metadata, "ss_tag_frequency", values.mapping)
    groups = [stated] if stated else [entry.get("tag_frequency") for entry in entries]
    totals: dict[str, int] = {}
    ignored = 0
    for group in groups:
        if isinstance(group, Mapping):
            ignored += _add_counts(totals, group)
    if ignored:
        held = f"{ignored} entries hold no count and are" if ignored > 1 else "an entry holds no count and is"
        draft.warn("header-value", f"ss_tag_frequency: {held} left out")
    ordered = dict(sorted(totals.items(), key=lambda item: -item[1]))  # stable: equal counts keep the file's order
    draft.state(tag_frequencies=ordered or None, top_tags=tuple(ordered)[:TOP_TAGS] or None)


def _add_counts(totals: dict[str, int], group: Mapping[str, Any]) -> int:
    """Add ``{folder: {tag: count}}`` or flat ``{tag: count}`` to ``totals``; returns how many entries hold no count."""
    ignored = 0
    for name, entry in group.items():
        for tag, value in entry.items() if isinstance(entry, Mapping) else ((name, entry),):
            found = value if type(value) is int and value >= 0 else _count(value)
            if found is None:
                ignored += 1
            else:
                clean = str(tag).strip()
                totals[clean] = totals.get(clean, 0) + found
    return ignored


def _count(value: Any) -> int | None:
    try:
        return values.count(value)
    except UnreadableError:
        return None
