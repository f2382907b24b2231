"""Merges that recombine singular vectors: TSV, Iso-C, Iso-CTS; and the calibrations Pico and SVC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..adapter import LowRank
from .floats import Float64Array
from .tasks import Canonical, Core, LayerTasks, Task, canonical, left_basis, significant


def polar(matrix: Float64Array) -> Float64Array:
    """The orthonormal columns closest to those of ``matrix``: ``P Qᵀ`` of its SVD ``P S Qᵀ``.

    Directions whose singular value is zero are left out: there the factor is not unique. Dependent columns, e.g. more
    of them than rows, so give a partial isometry.
    """
    q, r = np.linalg.qr(matrix)
    p, s, qt = np.linalg.svd(r, full_matrices=False)
    kept = significant(s, max(matrix.shape))
    return np.asarray(q @ (p[:, :kept] @ qt[:kept]))


def tsv(parts: Sequence[Canonical]) -> LowRank:
    """``P([u₁ u₂ ...]) diag(s₁, s₂, ...) P([v₁ v₂ ...])ᵀ``: all tasks' vectors made orthogonal.

    Where the vectors are independent the result has exactly the tasks' singular values, so
    ``‖merged‖² = Σ ‖wₜ Δₜ‖²``: it does not average. Every task keeps its whole rank.
    Source: Gargiulo et al., arXiv 2412.00081 (TSV-M).
    """
    u = polar(np.concatenate([part.u for part in parts], axis=1))
    v = polar(np.concatenate([part.vt.T for part in parts], axis=1))
    roots = np.sqrt(np.concatenate([part.s for part in parts]))
    return LowRank(u * roots, roots[:, None] * v.T)


def iso_c(core: Core, beta: float) -> LowRank:
    """The sum with its spectrum made equal: ``σᵢ → (1 - β) σᵢ + β mean(σ)`` over the values that are not zero.

    Source: Marczak et al., arXiv 2502.04959. The published code averages over all min(out, in) values of the dense
    matrix, most of them zero for LoRA, and gives directions outside every adapter the same value.
    """
    u, s, vt = _svd(sum(core.cores, np.zeros_like(core.cores[0])), core.cores)
    values = (1 - beta) * s + beta * (np.mean(s) if len(s) else 0.0)
    return LowRank(core.left @ (u * values), vt @ core.right.T)


def iso_cts(core: Core, common: float) -> LowRank:
    """Iso-C with directions kept for what only one task has: k of the sum, then s of each task, all of one size.

    ``k = round(common · R)`` leading directions of the sum, R its rank or that of all tasks together, then the
    leading ``s = (R - k) // T`` of each ``(I - u_k u_kᵀ) wₜ Δₜ``; both sides are made orthonormal, every value is the
    mean of all that were kept. Source: Marczak et al., arXiv 2502.04959, section 4.3.
    """
    rank = min(core.cores[0].shape)
    leading = max(1, round(common * rank))
    each = (rank - leading) // len(core.cores)
    u, s, vt = _svd(sum(core.cores, np.zeros_like(core.cores[0])), core.cores)
    found = [(u[:, :leading], s[:leading], vt[:leading])]
    for matrix in core.cores:
        own_u, own_s, own_vt = _svd(matrix - u[:, :leading] @ (u[:, :leading].T @ matrix), core.cores)
        found.append((own_u[:, :each], own_s[:each], own_vt[:each]))
    values = np.concatenate([part[1] for part in found])
    left = polar(np.concatenate([part[0] for part in found], axis=1))
    right = polar(np.concatenate([part[2].T for part in found], axis=1))
    mean = float(np.mean(values)) if len(values) else 0.0
    return LowRank(core.left @ (mean * left), right.T @ core.right.T)


def pico(layer: LayerTasks, parts: Sequence[Canonical]) -> list[Canonical]:
    """The tasks with their shared output directions damped: ``wₜ Δₜ + U diag(a - 1) Uᵀ wₜ Δₜ``.

    ``U Σ`` of all weighted deltas side by side, ``pⱼ = σⱼ² / Σσ²``, ``aⱼ = 1 / (1 + (T - 1) pⱼ)``: a direction that
    carries everything is divided by T, one that carries nothing stays. Source: arXiv 2604.16826, as described by
    a re-implementation; it takes the stored ``up`` factors for the deltas, which depends on how they were split.
    """
    u, s = left_basis(parts)
    damping = 1 / (1 + (len(layer.tasks) - 1) * s**2 / np.sum(s**2)) - 1
    found = []
    for part in parts:
        left = part.u * part.s
        found.append(canonical(LowRank(left + u @ (damping[:, None] * (u.T @ left)), part.vt)))
    return found


def svc(merged: LowRank, parts: Sequence[Canonical], floor: float) -> LowRank:
    """The merged delta with each singular value divided by how much of it the tasks have in common.

    With ``aᵗ = uᵣᵀ wₜ Δₜ``: ``sᵗ = <σᵣ vᵣᵀ, aᵗ> / ‖aᵗ‖²``, ``σᵣ → σᵣ T / Σₜ max(floor, sᵗ)``.
    Source: arXiv 2602.05536 and its implementation in FusionBench.
    """
    whole = canonical(merged)
    if not len(whole.s):
        return merged
    shares = np.zeros_like(whole.s)
    for part in parts:
        rows = (whole.u.T @ part.u) * part.s  # (rank, own): uᵣᵀ wₜ Δₜ in the orthonormal rows of vt
        along = whole.s * np.sum(rows * (whole.vt @ part.vt.T), axis=1)
        squares = np.sum(rows**2, axis=1)
        shares += np.maximum(floor, np.divide(along, squares, out=np.zeros_like(along), where=squares > 0))
    return Canonical(whole.u, whole.s * len(parts) / shares, whole.vt).factors(merged.kernel)


def as_tasks(layer: LayerTasks, parts: Sequence[Canonical]) -> LayerTasks:
    """A layer whose weighted deltas are ``parts``; the weights' signs are in the deltas."""
    tasks = [
        Task(task.number, abs(task.weight), _unweighted(part, abs(task.weight), layer.kernel))
        for task, part in zip(layer.tasks, parts, strict=True)
    ]
    return LayerTasks(layer.name, tuple(tasks), layer.kernel, layer.expert)


def _unweighted(part: Canonical, weight: float, kernel: tuple[int, ...]) -> LowRank:
    if not len(part.s):
        return LowRank(np.zeros((part.u.shape[0], 1)), np.zeros((1, part.vt.shape[1])), 1.0, kernel)
    found = part.factors(kernel)
    return LowRank(found.up, found.down, 1 / weight, kernel)


def _svd(matrix: Float64Array, beside: Sequence[Float64Array]) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Without the values that are zero beside the matrices it was made of: what cancels leaves rounding errors."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    noise = 8 * max(matrix.shape) * float(np.finfo(np.float64).eps) * max(np.linalg.norm(one) for one in beside)
    kept = int(np.count_nonzero(s > noise))
    return u[:, :kept], s[:kept], vt[:kept]
