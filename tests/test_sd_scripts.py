"""What sd-scripts' tools make of an adapter, derived again with torch's own operations, beside what we make of it.

Written from the published behaviour of kohya-ss/sd-scripts ``networks/resize_lora.py``, ``merge_lora.py`` and
``svd_merge_lora.py``: dense float32 deltas, full SVDs, thresholds and quantiles as torch has them. Until pull request
2194 (merged in 2026) the dynamic rules of ``resize_lora.py`` kept one component more than their target needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import lora_analysis as la
from adapters import Arrays, normal, save
from command import lora

torch = pytest.importorskip("torch", reason="the peer needs torch: pip install torch==2.13.0")

LINEAR = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
CROSS = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"  # 768 wide: SD1
POINT = "lora_unet_down_blocks_0_attentions_0_proj_in"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
SHAPES = {LINEAR: (40, 30), CROSS: (24, 768), POINT: (20, 18, 1, 1), CONV: (16, 12, 3, 3)}
RANK = 6


def adapter(seed: int, alphas: Mapping[str, float | None], rank: int = RANK) -> Arrays:
    """Layers of decaying spectra, so that rules choose among ranks."""
    arrays: Arrays = {}
    for number, (name, alpha) in enumerate(alphas.items()):
        out, width, *kernel = SHAPES[name]
        decay = np.geomspace(1, 0.05, rank).astype(np.float32)
        ones = (1,) * len(kernel)
        arrays[f"{name}.lora_down.weight"] = normal(seed + number, rank, width, *kernel)
        arrays[f"{name}.lora_up.weight"] = (normal(seed + 50 + number, out, rank) * decay).reshape(out, rank, *ones)
        if alpha is not None:
            arrays[f"{name}.alpha"] = np.array(alpha, np.float32)
    return arrays


ONE = adapter(1, {LINEAR: 3.0, CROSS: 6.0, POINT: None, CONV: 12.0})
TWO = adapter(200, {LINEAR: 8.0, CROSS: None, CONV: 2.0})  # has one layer less


class Pair(NamedTuple):
    """A layer's factors as the tools read them: float32, alpha a number, the rank where none is stored."""

    up: Any
    down: Any
    alpha: float

    @property
    def scale(self) -> float:
        return self.alpha / len(self.down)

    def product(self) -> Any:
        return self.up.reshape(len(self.up), -1) @ self.down.reshape(len(self.down), -1)


def pairs(arrays: Arrays) -> dict[str, Pair]:
    found = {}
    for key, down in arrays.items():
        name, _, ending = key.partition(".lora_down")
        if ending:
            up = arrays[f"{name}.lora_up.weight"]
            alpha = float(arrays.get(f"{name}.alpha", np.float32(len(down))))
            found[name] = Pair(torch.from_numpy(up), torch.from_numpy(down), alpha)
    return found


def deltas(path: Path) -> dict[str, np.ndarray]:
    with la.open(path) as opened:
        return {name: la.materialise(layer).reshape(layer.shape[0], -1) for name, layer in opened.layers.items()}


def assert_same(found: np.ndarray, theirs: Any, tolerance: float = 2e-6) -> None:
    """Their float32 products of these sizes are off by some 1e-7."""
    wanted = theirs.double().numpy()
    assert np.linalg.norm(found - wanted) <= tolerance * np.linalg.norm(wanted)


# -- resize_lora.py ----------------------------------------------------------------------------------------


def their_rank(s: Any, rule: str, value: float, limit: int, *, extra: bool) -> int:
    """How many of the singular values ``s`` are kept, at most ``limit``. ``extra``: as before pull request 2194."""
    if rule == "sv_ratio":
        kept = int((s > s[0] / value).sum())
    else:
        shares = s if rule == "sv_cumulative" else s**2
        reached = torch.cumsum(shares, dim=0) / shares.sum()
        wanted = value if rule == "sv_cumulative" else value**2
        kept = int(torch.searchsorted(reached, torch.tensor(wanted, dtype=reached.dtype))) + 1
    position = min(kept, len(s) - 1) if extra else min(kept - 1, len(s) - 1)
    position = max(position, 1 if extra else 0)
    return min(1 if s[0] <= 1e-6 else position + 1, limit)


def their_resize(pair: Pair, choose: Any) -> tuple[int, float, Any]:
    """Rank, alpha and delta. The SVD is of the product without its scale, which goes into alpha."""
    u, s, vh = torch.linalg.svd(pair.product())
    rank = choose(s)
    return rank, pair.scale * rank, pair.scale * ((u[:, :rank] @ torch.diag(s[:rank])) @ vh[:rank])


RULES = [
    *(("sv_ratio", value) for value in (1.5, 4.0, 12.0, 1000.0)),
    *(("sv_fro", value) for value in (0.5, 0.9, 0.99)),
    *(("sv_cumulative", value) for value in (0.3, 0.7, 0.95)),
]
OURS = {"sv_ratio": "ratio", "sv_fro": "norm", "sv_cumulative": "sum"}


@pytest.mark.parametrize("extra", [True, False], ids=["until-2194", "since-2194"])
@pytest.mark.parametrize(("rule", "value"), RULES)
def test_dynamic_resizing_keeps_what_theirs_keeps(rule: str, value: float, extra: bool, tmp_path: Path) -> None:
    """Our rules of their names are the older ones; since then they agree with the definitions that ours follow."""
    path, out = save(tmp_path / "a.safetensors", ONE), tmp_path / "out.safetensors"
    theirs = {
        name: their_resize(pair, lambda s: their_rank(s, rule, value, RANK, extra=extra))
        for name, pair in pairs(ONE).items()
    }
    if all(rank == RANK for rank, *_ in theirs.values()):
        pytest.skip("nothing changes: no rank is below the stored ones")
    la.resize(path, out, **{rule if extra else OURS[rule]: value})
    found = deltas(out)
    with la.open(out) as opened:
        assert {name: layer.rank for name, layer in opened.layers.items()} == {n: t[0] for n, t in theirs.items()}
        for name, (_, alpha, delta) in theirs.items():
            if opened.layers[name].alpha is not None:
                assert opened.layers[name].alpha == pytest.approx(alpha, rel=1e-6), name
            assert_same(found[name], delta)


def test_the_rules_choose_among_ranks() -> None:
    """Else the test above would hold for rules that answer one number."""
    for rule in OURS:
        values = [value for name, value in RULES if name == rule]
        chosen = {
            their_rank(torch.linalg.svd(pair.product())[1], rule, value, RANK, extra=True)
            for pair in pairs(ONE).values()
            for value in values
        }
        assert len(chosen) >= 3, rule


def test_a_fixed_rank_with_another_for_convolutions(tmp_path: Path) -> None:
    path, out = save(tmp_path / "a.safetensors", ONE), tmp_path / "out.safetensors"
    done = lora("resize", path, "-o", out, "--rank", 2, "--conv-rank", 3)
    assert done.code == 0, done.err
    found = deltas(out)
    for name, pair in pairs(ONE).items():
        # Theirs calls every four-dimensional pair a convolution; only k x k ones are to us.
        rank = 3 if name == CONV else 2
        assert_same(found[name], their_resize(pair, lambda _, rank=rank: rank)[2])


# -- merge_lora.py -------------------------------------------------------------------------------------------


def their_merge(adapters: list[Arrays], ratios: list[float], *, concat: bool) -> dict[str, Any]:
    """Deltas as a loader makes them of the file: alpha over the rank of what is stored."""
    first: dict[str, float] = {}
    merged: dict[str, tuple[Any, Any]] = {}
    for arrays, ratio in zip(adapters, ratios, strict=True):
        for name, pair in pairs(arrays).items():
            scale = sqrt(pair.alpha / first.setdefault(name, pair.alpha)) * ratio
            up, down = pair.up * abs(scale), pair.down * scale
            if name not in merged:
                merged[name] = up, down
            elif concat:
                merged[name] = torch.cat([merged[name][0], up], dim=1), torch.cat([merged[name][1], down], dim=0)
            else:
                merged[name] = merged[name][0] + up, merged[name][1] + down
    return {
        name: first[name] / len(down) * (up.reshape(len(up), -1) @ down.reshape(len(down), -1))
        for name, (up, down) in merged.items()
    }


@pytest.mark.parametrize("ratios", [[1.0, 1.0], [0.8, -0.3], [-0.5, 0.5]], ids=str)
@pytest.mark.parametrize("concat", [False, True], ids=["added", "concat"])
def test_merge_lora(concat: bool, ratios: list[float], tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}.safetensors", arrays) for n, arrays in enumerate((ONE, TWO))]
    method = "compat:sd_scripts_concat" if concat else "compat:sd_scripts"
    done = lora(
        "merge", *(f"{path}:{ratio}" for path, ratio in zip(paths, ratios, strict=True)), "--method", method,
        "-o", tmp_path / "out.safetensors",
    )  # fmt: skip
    assert done.code == 0, done.err
    found, theirs = deltas(tmp_path / "out.safetensors"), their_merge([ONE, TWO], ratios, concat=concat)
    assert found.keys() == theirs.keys() == SHAPES.keys()
    for name, delta in theirs.items():
        assert_same(found[name], delta)


# -- svd_merge_lora.py ---------------------------------------------------------------------------------------


def their_svd_merge(adapters: list[Arrays], ratios: list[float], rank: int) -> dict[str, tuple[Any, Any]]:
    """Up and down by layer, before they are clamped."""
    sums: dict[str, Any] = {}
    for arrays, ratio in zip(adapters, ratios, strict=True):
        for name, pair in pairs(arrays).items():
            sums[name] = sums.get(name, 0.0) + ratio * pair.product() * pair.scale
    made = {}
    for name, delta in sums.items():
        u, s, vh = torch.linalg.svd(delta)
        kept = min(rank, *SHAPES[name][:2])
        made[name] = u[:, :kept] @ torch.diag(s[:kept]), vh[:kept]
    return made


def their_clamp(up: Any, down: Any, signs: Any) -> tuple[Any, Any]:
    """Their clamped factors, had their routine turned its pairs of singular vectors by ``signs``."""
    up, down = up * signs, down * signs[:, None]
    limit = torch.quantile(torch.cat([up.flatten(), down.flatten()]), 0.99)
    return up.clamp(-limit, limit), down.clamp(-limit, limit)


def our_svd_merge(tmp_path: Path, ratios: list[float], rank: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    paths = [save(tmp_path / f"{n}.safetensors", arrays) for n, arrays in enumerate((ONE, TWO))]
    out = tmp_path / "out.safetensors"
    done = lora(
        "merge", *(f"{path}:{ratio}" for path, ratio in zip(paths, ratios, strict=True)),
        "--method", "compat:sd_scripts_svd", "--rank", rank, "-o", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    with la.open(out) as opened:
        found = {}
        for name, layer in opened.layers.items():
            assert layer.scale == 1.0
            up, down = (np.array(opened.source.array(layer.keys[role])) for role in ("up", "down"))
            found[name] = up.reshape(len(up), -1), down.reshape(len(down), -1)
    return found


@pytest.mark.parametrize("rank", [4, 6])
@pytest.mark.parametrize("ratios", [[1.0, 1.0], [0.8, -0.3]], ids=str)
def test_svd_merge_clamps_as_theirs_does(ratios: list[float], rank: int, tmp_path: Path) -> None:
    """Value by value. Which way a pair of singular vectors is turned is the routine's choice: here, as ours are."""
    ours, theirs = our_svd_merge(tmp_path, ratios, rank), their_svd_merge([ONE, TWO], ratios, rank)
    assert ours.keys() == theirs.keys() == SHAPES.keys()
    for name, factors in ours.items():
        signs = torch.sign((theirs[name][0] * torch.from_numpy(factors[0])).sum(dim=0))
        for found, wanted in zip(factors, (w.numpy() for w in their_clamp(*theirs[name], signs)), strict=True):
            # torch interpolates a quantile at a float32 position: the limit is off by some 1e-5.
            np.testing.assert_allclose(found, wanted, atol=5e-5 * np.abs(wanted).max())


def test_ours_is_one_of_the_answers_that_their_routine_may_give(tmp_path: Path) -> None:
    """Of all 16 ways to turn four pairs of vectors: MKL and OpenBLAS turn some of them differently."""
    ours, theirs = our_svd_merge(tmp_path, [1.0, 1.0], 4), their_svd_merge([ONE, TWO], [1.0, 1.0], 4)
    apart = []
    for name, (up, down) in ours.items():
        found = up.astype(float) @ down
        off = []
        for signs in product((1.0, -1.0), repeat=4):
            wanted = [w.double().numpy() for w in their_clamp(*theirs[name], torch.tensor(signs))]
            whole = wanted[0] @ wanted[1]
            off.append(np.linalg.norm(found - whole) / np.linalg.norm(whole))
        assert min(off) < 5e-5, name
        apart.append(max(off))
    assert max(apart) > 0.05  # 0.5 as measured: their result is no function of the adapters alone
