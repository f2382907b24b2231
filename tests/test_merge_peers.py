"""What a merge writes, read by the libraries that will load it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import adapters
from adapters import save
from lora_analysis.merging.api import merge_loras
from lora_analysis.merging.planning import plan_merge
from lora_analysis.merging.writing import write_merge
from sources import BF16, adapter_of


@pytest.mark.parametrize("dtype", [np.float16, BF16, np.float32])
def test_the_safetensors_library_reads_the_output(dtype: type, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    mixed = {name: array.astype(dtype) if array.ndim else array for name, array in adapters.lora(1).items()}
    plan = plan_merge([adapter_of(mixed | {"lora_unet_norm.w_norm": adapters.normal(2, 5)})], [0.3])
    write_merge(plan, tmp_path / "sum.safetensors")
    with safetensors.safe_open(tmp_path / "sum.safetensors", framework="numpy") as file:
        assert set(file.keys()) == {tensor.name for tensor in plan.rewriting.tensors}
        assert file.metadata()["lora_analysis.operation"] == "weighted_sum"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rank", [None, 12], ids=["exact", "truncated above the rank"])
def test_peft_applies_the_sum(rank: int | None, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the peer needs torch: pip install torch==2.13.0")
    peft = pytest.importorskip("peft")
    from test_peers import Toy, peft_deltas

    def trained(seed: int, **options: object) -> dict[str, np.ndarray]:
        torch.manual_seed(seed)
        model = peft.get_peft_model(Toy(), peft.LoraConfig(**options))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.3)
        model.save_pretrained(tmp_path / str(seed))
        return peft_deltas(model)

    parts = [
        trained(1, r=4, lora_alpha=8, target_modules=["first", "second", "conv2"], rank_pattern={"second": 2}),
        trained(2, r=3, lora_alpha=5, target_modules=["first", "head"], use_rslora=True),
    ]
    expected: dict[str, np.ndarray] = {}
    for part, weight in zip(parts, (0.75, 0.25), strict=True):
        for name, delta in part.items():
            expected[name] = expected.get(name, 0) + weight * delta

    done = merge_loras([tmp_path / "1", tmp_path / "2"], [3, 1], tmp_path / "sum", rank)
    assert done["success"], done["error"]
    found = peft_deltas(peft.PeftModel.from_pretrained(Toy(), tmp_path / "sum"))
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        assert np.linalg.norm(found[name] - delta) <= 1e-5 * np.linalg.norm(delta), name


def test_a_checkpoint_of_pytorch_is_written_where_the_name_says_so(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the peer needs torch: pip install torch==2.13.0")
    path = save(tmp_path / "a.safetensors", adapters.lora(1))
    assert merge_loras([path], [1], tmp_path / "sum.pt")["success"]
    state = torch.load(tmp_path / "sum.pt", weights_only=True)
    up, down = (state[f"{adapters.MODULE}.lora_{side}.weight"].double() for side in ("up", "down"))
    expected = (
        0.5
        * adapters.lora(1)[f"{adapters.MODULE}.lora_up.weight"].astype(float)
        @ adapters.lora(1)[f"{adapters.MODULE}.lora_down.weight"].astype(float)
    )
    np.testing.assert_allclose((up @ down).numpy(), expected, atol=1e-5)
