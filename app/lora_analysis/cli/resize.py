"""``lora resize``: other ranks, the closest delta."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..errors import LoraAnalysisError, OptionError
from ..formats.digest_ahead import DigestAhead
from ..formats.discovery import is_adapter_folder
from ..json_ready import encodable
from .exits import Exit, code_for_many, exit_code
from .inputs import Inputs, resolve
from .layers_bar import layers_bar
from .memory import keep_freed_memory
from .output import complain, emit, emit_json, show, shown
from .progress import bytes_bar
from .quantities import StoredType, bytes_of
from .shared_options import (
    Absolute,
    AsJson,
    ConvRank,
    DryRun,
    Energy,
    Force,
    Knee,
    LayerError,
    MaxRank,
    MinRank,
    Norm,
    Params,
    RankFor,
    Ratio,
    Size,
    Sum,
    SvCumulative,
    SvFro,
    SvRatio,
    Threads,
    WholeError,
    output_option,
    ranks_by_pattern,
    require_output,
)

if TYPE_CHECKING:
    from ..resizing.options import ResizeOptions
    from ..resizing.plan import ResizePlan
    from ..resizing.writing import ResizeReport

SCHEMA = "lora-analysis/resize/1"


class Method(StrEnum):
    """``--method``."""

    SVD = "svd"
    PAD_TRUNCATE = "pad_truncate"


class Alpha(StrEnum):
    """``--alpha``."""

    KEEP_SCALE = "keep-scale"
    RANK = "rank"
    BAKED = "baked"


class Job(NamedTuple):
    """What to do with each input."""

    options: ResizeOptions
    dry_run: bool
    force: bool
    threads: int | None
    digest_ahead: DigestAhead | None  # of the only input
    with_hashes: bool  # whether the output's are shown


class Outcome(NamedTuple):
    """What became of one input."""

    path: str
    result: ResizePlan | ResizeReport | None = None
    error: LoraAnalysisError | None = None

    def to_dict(self) -> dict[str, Any]:
        found = self.result.to_dict() if self.result is not None else {}
        return {"path": encodable(self.path), **found} | ({"error": self.error.to_dict()} if self.error else {})


def resize(
    paths: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files, adapter folders, patterns.", show_default=False)
    ],
    output: Annotated[str | None, output_option("A file; a folder for many.")] = None,
    rank: Annotated[float | None, typer.Option(metavar="K", help="This rank.", show_default=False)] = None,
    energy: Energy = None,
    norm: Norm = None,
    sum_: Sum = None,
    ratio: Ratio = None,
    absolute: Absolute = None,
    layer_error: LayerError = None,
    knee: Knee = False,
    size: Size = None,
    params: Params = None,
    error: WholeError = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Scores: fro_lora=1,thr=-1.2", show_default=False)
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="For a recipe's spn_ckpt and fro_ckpt.", show_default=False),
    ] = None,
    sv_ratio: SvRatio = None,
    sv_fro: SvFro = None,
    sv_cumulative: SvCumulative = None,
    conv_rank: ConvRank = None,
    rank_for: RankFor = None,
    min_rank: MinRank = None,
    max_rank: MaxRank = None,
    method: Annotated[
        Method, typer.Option(help="svd: the closest delta; pad_truncate: cut factors as they stand.")
    ] = Method.SVD,
    dtype: Annotated[StoredType, typer.Option(help="Type of resized factors.")] = StoredType.KEEP,
    alpha: Annotated[
        Alpha, typer.Option(help="Keep alpha / rank, store alpha = rank, or store none; the delta is the same.")
    ] = Alpha.KEEP_SCALE,
    keep_structure: Annotated[
        bool, typer.Option("--keep-structure", help="Leave LoHa, LoKr, Tucker and differences as they are.")
    ] = False,
    dry_run: DryRun = False,
    json: AsJson = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Change ranks: the closest delta of the ranks you ask for, in a new file.

    Exit code 1: nothing was written. 4: so it is for some of many files.
    """
    require_output(output, dry_run=dry_run)
    inputs = resolve(paths)
    with _digest_ahead(inputs, wanted=not dry_run) as ahead:
        options = _options(
            rank=rank, energy=energy, norm=norm, sum=sum_, ratio=ratio, absolute=absolute, layer_error=layer_error,
            knee=knee, sv_ratio=sv_ratio, sv_fro=sv_fro, sv_cumulative=sv_cumulative, parameters=params, error=error,
            size=None if size is None else bytes_of(size), recipe=recipe, base=base,
            conv_rank=conv_rank, rank_for=ranks_by_pattern(rank_for or ()), min_rank=min_rank, max_rank=max_rank,
            method=method.value, dtype=dtype.value, alpha=alpha.value, keep_structure=keep_structure,
        )  # fmt: skip
        job = Job(options, dry_run, force, threads, ahead, with_hashes=json)
        keep_freed_memory()
        outcomes = _many(inputs, output, job) if inputs.many else [_one(inputs.paths[0], output, job)]
        code = _show(outcomes, inputs, as_json=json, dry_run=dry_run)
    raise typer.Exit(code)


def _digest_ahead(inputs: Inputs, *, wanted: bool) -> DigestAhead | nullcontext[None]:
    """The input's digest, begun before the libraries are loaded; of many inputs each is hashed in its turn."""
    return nullcontext() if inputs.many or not wanted else DigestAhead(inputs.paths[0])


def _options(**asked: Any) -> ResizeOptions:
    from ..resizing.request import options_of

    return options_of(**asked)


# -- inputs and outputs ------------------------------------------------------------------------------


def _one(path: str, output: str | None, job: Job) -> Outcome:
    """One adapter; what goes wrong ends the command."""
    if output is not None and (os.path.isdir(output) or output.endswith(os.sep)) and not _is_in_adapter_folder(path):
        _make_folder(output, job)
        output = os.path.join(output, _name_of(path))
    return Outcome(path, _resize(path, output, job))


def _many(inputs: Inputs, output: str | None, job: Job) -> Iterator[Outcome]:
    """Every adapter in turn; what goes wrong with one does not stop the others."""
    targets = _targets(inputs.paths, output)
    if output is not None:
        _make_folder(output, job)
    for path, target in zip(inputs.paths, targets, strict=True):
        try:
            yield Outcome(path, _resize(path, target, job))
        except LoraAnalysisError as error:
            yield Outcome(path, error=error)


def _targets(paths: Sequence[str], folder: str | None) -> list[str | None]:
    """A name in the output folder for every input. Raises: OptionError where two inputs would get one."""
    if folder is None:
        return [None] * len(paths)
    names: dict[str, str] = {}
    for path in paths:
        name = _name_of(path)
        if name in names:
            raise OptionError(f"{names[name]} and {path} would both become {name}; resize them one by one")
        names[name] = path
    return [os.path.join(folder, name) for name in names]


def _name_of(path: str) -> str:
    """The input's own name; of an adapter folder or the weights file in one, the folder's."""
    whole = os.path.abspath(path)
    if _is_in_adapter_folder(path):
        return os.path.basename(whole if os.path.isdir(whole) else os.path.dirname(whole))
    return f"{os.path.splitext(os.path.basename(whole))[0]}.safetensors"


def _is_in_adapter_folder(path: str) -> bool:
    """Whether the input is an adapter folder, or the weights file in one: then the output is a folder too."""
    from ..formats.folder import WEIGHT_NAMES

    folder, name = os.path.split(os.path.abspath(path))
    return is_adapter_folder(path) or (name in WEIGHT_NAMES and is_adapter_folder(folder))


def _make_folder(folder: str, job: Job) -> None:
    """Raises: OutputError with the reason."""
    from ..formats.target import explained

    if not job.dry_run:
        with explained(folder):
            os.makedirs(folder, exist_ok=True)


def _resize(path: str, output: str | None, job: Job) -> ResizePlan | ResizeReport:
    """The plan, or what came of it."""
    from ..formats import open_adapter
    from ..resizing.planning import plan_resize
    from ..resizing.writing import check_target_for, write_resize

    with open_adapter(path, lenient_metadata=True) as adapter:
        if output is not None and not job.dry_run:
            check_target_for(adapter, output, overwrite=job.force)
        with layers_bar(os.path.basename(path)) as progress:
            plan = plan_resize(adapter, job.options, predict=job.dry_run, workers=job.threads, progress=progress)
        if job.dry_run or output is None:
            return plan
        with bytes_bar(os.path.basename(output), wanted=True) as written:
            return write_resize(
                plan, output,
                overwrite=job.force, workers=job.threads, progress=written, digest_ahead=job.digest_ahead,
                with_hashes=job.with_hashes,
            )  # fmt: skip


# -- what is shown -----------------------------------------------------------------------------------


def _show(found: Sequence[Outcome] | Iterator[Outcome], inputs: Inputs, *, as_json: bool, dry_run: bool) -> Exit:
    from .resize_view import resize_view

    outcomes = []
    for outcome in found:
        outcomes.append(outcome)
        if not as_json and outcome.result is not None:
            if inputs.many:
                emit("")
                show(shown(outcome.path, "bold"))
            show(resize_view(outcome.result, with_worst=not inputs.many))
        if outcome.error is not None:
            complain(_with_path(outcome.path, outcome.error.message))
    for path in inputs.skipped:
        complain(f"{path}: not a regular file; skipped", kind="note")
    if as_json:
        _emit(outcomes, many=inputs.many, dry_run=dry_run)
    return code_for_many([Exit.OK if one.error is None else exit_code(one.error) for one in outcomes])


def _with_path(path: str, message: str) -> str:
    """A message that says which of many files it is about."""
    return message if path in message else f"{path}: {message}"


def _emit(outcomes: Sequence[Outcome], *, many: bool, dry_run: bool) -> None:
    head = {"schema": SCHEMA, "dry_run": dry_run}
    if many:
        emit_json({**head, "adapters": [outcome.to_dict() for outcome in outcomes]})
    else:
        emit_json({**head, **outcomes[0].to_dict()})
