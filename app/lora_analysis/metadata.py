"""What an adapter says about itself and what its tensors say: ``inspect`` and the async ``LoraMetadataExtractor``."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .adapter import EMPTY, Adapter, Finding
from .background import in_thread
from .errors import LoraAnalysisError
from .formats import HEADER_LIMIT, open_adapter
from .formats.chunks import Cancel, Progress
from .formats.hashes import FileHashes, check_claims, hash_file
from .formats.headers import HeaderFacts, parse_header
from .inspection.checks import check
from .inspection.document import architecture_block, file_block, model_block, training_block, validation_block
from .inspection.file_facts import FileFacts, file_facts, path_text
from .inspection.summary import AdapterSummary, summarise
from .inspection.values_scan import scan_values as scan
from .json_ready import encodable, json_ready
from .text import printable
from .timestamps import utc_time

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Inspection:
    """Everything found out about one adapter. It holds no open file."""

    file: FileFacts
    adapter: AdapterSummary = field(default_factory=AdapterSummary)
    facts: HeaderFacts = field(default_factory=HeaderFacts)
    metadata: Mapping[str, Any] = field(default_factory=dict)  # the header's, as stored
    config: Mapping[str, Any] | None = None  # adapter_config.json
    hashes: tuple[FileHashes, ...] = ()  # one per weight file, where asked for
    findings: tuple[Finding, ...] = ()
    extraction_time: str | None = None  # ISO 8601, UTC

    @property
    def is_valid(self) -> bool:
        """Whether nothing found is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """One strict JSON document: the blocks of :meth:`LoraMetadataExtractor.extract_metadata`."""
        document = {
            "file_info": file_block(self.file, self.hashes),
            "model_info": model_block(self.file, self.adapter, self.facts, self.metadata, self.config),
            "training_info": training_block(self.adapter, self.facts),
            "architecture_info": architecture_block(self.adapter, self.facts),
            "validation_info": validation_block(self.findings),
            "adapter": self.adapter.to_dict(),
            "extraction_time": self.extraction_time,
        }
        ready: dict[str, Any] = json_ready(document)
        return ready


def inspect(
    path: str | os.PathLike[str],
    *,
    hash: bool = False,  # noqa: A002  # the word users know; hash() is not needed here
    scan_values: bool = False,
    header_limit: int = HEADER_LIMIT,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Inspection:
    """Inspect a file, or a PEFT, diffusers or MLX folder. Reads headers only, unless asked for more.

    ``hash`` reads the whole file once for its digests and checks those in the header. ``scan_values``
    reads every tensor and reports NaN and infinity. ``progress(bytes_done, bytes_in_all)`` covers both.

    Raises: FileAccessError, HeaderError, UnsafePickleError, ConfigError where the file cannot be opened;
    CancelledError soon after ``cancel()`` is true.
    """
    name = path_text(path)
    with open_adapter(name, header_limit=header_limit, lenient_metadata=True) as adapter:
        facts = parse_header(adapter.metadata, adapter.config)
        summary = summarise(adapter)
        files = _weight_files(adapter)
        phases = _Phases(progress, sum((hash, scan_values)))
        hashes = _hash_files(adapter, files, phases.next(), cancel) if hash else ()
        found = [*adapter.findings, *facts.findings, *check(adapter, facts, summary)]
        found += check_claims(adapter.metadata, hashes[0] if len(hashes) == 1 else None)
        if scan_values:
            found += scan(adapter, progress=phases.next(), cancel=cancel)
        return Inspection(
            file=file_facts(name, files),
            adapter=summary,
            facts=facts,
            metadata=dict(adapter.metadata),
            config=adapter.config,
            hashes=hashes,
            findings=tuple(found),
            extraction_time=utc_time(time.time()),
        )


def _weight_files(adapter: Adapter) -> tuple[str, ...]:
    return tuple(getattr(adapter.source, "files", None) or (adapter.source.path,))


def _hash_files(
    adapter: Adapter, files: tuple[str, ...], progress: Progress | None, cancel: Cancel | None
) -> tuple[FileHashes, ...]:
    """One per file. Names and offsets of tensors are those of the file only where there is one."""
    if len(files) == 1:
        source = adapter.source
        return (hash_file(files[0], source.tensors, source.metadata, progress=progress, cancel=cancel),)
    return tuple(hash_file(file, EMPTY, EMPTY, progress=progress, cancel=cancel) for file in files)


class _Phases:
    """One progress over several passes that each count to their own total."""

    def __init__(self, progress: Progress | None, count: int) -> None:
        self._progress, self._count, self._started = progress, count, 0

    def next(self) -> Progress | None:
        """The progress function of the next pass."""
        report, count, before = self._progress, self._count, self._started
        self._started += 1
        if report is None:
            return None
        return lambda done, total: report(before * total + done, count * total)


# -- the application's interface ---------------------------------------------------------------------


class LoraMetadataExtractor:
    """Metadata of adapters for applications: coroutines that return plain dicts and do not raise for bad input.

    The work runs in a thread; cancelling the task stops it. Every dict is strict JSON.
    """

    def __init__(self, *, header_limit: int = HEADER_LIMIT) -> None:
        self._header_limit = header_limit

    async def extract_metadata(
        self,
        path: str | os.PathLike[str],
        *,
        hash: bool = False,  # noqa: A002  # as in inspect()
        scan_values: bool = False,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Inspect one adapter; see :func:`inspect` for the options.

        Returns: ``file_info``, ``model_info``, ``training_info``, ``architecture_info``, ``validation_info``,
        ``adapter`` and ``extraction_time``. A file that cannot be read gives the same blocks with what is
        known, ``validation_info.is_valid`` False, and ``error``: ``{"type", "code", "message"}``.
        """
        return await in_thread(
            lambda cancel: self._extract(path, hash=hash, scan_values=scan_values, progress=progress, cancel=cancel)
        )

    def _extract(self, path: Any, **options: Any) -> dict[str, Any]:
        try:
            return inspect(path, header_limit=self._header_limit, **options).to_dict()
        except LoraAnalysisError as error:
            logger.error("%s", error.message)
            return _failure(path, error.to_dict())
        except Exception as error:  # a defect of ours must not take a whole scan down; the log has the trace
            logger.exception("inspection failed: %s", printable(path, limit=200))
            message = printable(f"unexpected {type(error).__name__}: {error}", limit=300)
            return _failure(path, {"type": type(error).__name__, "code": "internal", "message": message})

    async def format_metadata_for_printing(self, metadata: Mapping[str, Any]) -> str:
        """The document as plain text for a terminal: control characters escaped, long values cut."""
        from .inspection.rendering import render_text

        return render_text(metadata)

    async def export_metadata(
        self,
        metadata: Mapping[str, Any],
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002  # the word of the interface
    ) -> dict[str, Any]:
        """Write the document as ``json``, ``text`` or ``markdown``, by default as the suffix says.

        Returns: ``{"ok", "path", "format"}``, with ``error`` where it failed; then nothing was changed.
        """
        from .metadata_export import write_document

        def work(_cancel: Cancel) -> dict[str, Any]:
            result = {"ok": True, "path": encodable(_name_of(path)), "format": format}
            try:
                return {**result, "format": write_document(metadata, path, format)}
            except LoraAnalysisError as error:
                logger.error("%s", error.message)
                return {**result, "ok": False, "error": error.to_dict()}

        return await in_thread(work)

    async def export_to_json(self, metadata: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
        """:meth:`export_metadata` as strict JSON."""
        return await self.export_metadata(metadata, path, "json")

    async def export_to_text(self, metadata: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
        """:meth:`export_metadata` as plain text."""
        return await self.export_metadata(metadata, path, "text")

    async def export_to_markdown(self, metadata: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
        """:meth:`export_metadata` as Markdown tables."""
        return await self.export_metadata(metadata, path, "markdown")


def _name_of(path: Any) -> str:
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)


def _failure(path: Any, error: Mapping[str, str]) -> dict[str, Any]:
    """The blocks of a file that could not be opened: what the file system says, and why."""
    inspection = Inspection(
        file=file_facts(_name_of(path)),
        findings=(Finding("error", error["code"], error["message"]),),
        extraction_time=utc_time(time.time()),
    )
    return {**inspection.to_dict(), "error": dict(error)}
