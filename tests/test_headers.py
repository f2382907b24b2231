"""What headers and configurations say, read into typed facts: one table of cases per rule."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import REASON, SHARED
from lora_analysis.formats.headers import (
    GRAMMARS,
    HeaderFacts,
    additional_networks,
    ai_toolkit,
    gguf,
    kohya,
    mlx,
    modelspec,
    onetrainer,
    parse_header,
    peft,
    values,
)
from lora_analysis.formats.headers.optimizer import parse_optimizer

SAMPLES = sorted((SHARED / "metadata_samples").glob("*.json"))

KOHYA = {
    "ss_sd_scripts_commit_hash": "f9317052",
    "ss_network_module": "networks.lora",
    "ss_network_dim": "32",
    "ss_network_alpha": "16.0",
    "ss_network_args": '{"conv_dim": "8", "conv_alpha": "4", "block_dims": null}',
    "ss_base_model_version": "sdxl_base_v1-0",
    "ss_v2": "False",
    "ss_steps": "444",
    "ss_epoch": "6",
    "ss_num_epochs": "10",
    "ss_learning_rate": "1.0",
    "ss_text_encoder_lr": "[1e-05, 2e-05]",
    "ss_optimizer": "prodigyopt.prodigy.Prodigy(decouple=True,weight_decay=0.5,betas=(0.9, 0.99),d_coef=None)",
    "ss_sd_model_name": "base.safetensors",
    "ss_clip_skip": "None",
    "ss_noise_offset": "nan",
    "ss_gradient_checkpointing": "True",
    "ss_training_started_at": "1726066908.2484195",
    "ss_training_finished_at": "1726067863.29673",
    "ss_num_train_images": "204",
    "ss_bucket_info": "null",
    "ss_datasets": json.dumps(
        [
            {
                "resolution": [1024, 768],
                "batch_size_per_device": 5,
                "enable_bucket": True,
                "tag_frequency": {"img": {"ignored": 999}},
                "subsets": [{"image_dir": "C:\\Users\\somebody\\2_img", "img_count": 102, "num_repeats": 2}],
            }
        ]
    ),
    "ss_dataset_dirs": '{"img": {"n_repeats": 2, "img_count": 102}}',
    "ss_tag_frequency": '{"img": {"hat": 3, "1girl": 96}, "reg": {"hat": 2, "solo": 5}}',
    "ss_some_new_option": "0.25",
    "modelspec.title": "A Title",
    "modelspec.resolution": "512x512",
    "modelspec.some_new_field": "x",
}


def facts(metadata: dict[str, Any], config: dict[str, Any] | None = None) -> HeaderFacts:
    return parse_header(metadata, config)


# -- samples -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not SAMPLES, reason=REASON)
@pytest.mark.parametrize("path", [path for path in SAMPLES if path.name != "index.json"], ids=lambda path: path.stem)
def test_a_sample_yields_its_expected_facts(path: Path) -> None:
    sample = json.loads(path.read_text())
    is_config = sample["kind"] == "adapter_config"
    found = (facts({}, sample["metadata"]) if is_config else facts(sample["metadata"])).to_dict()
    for name, expected in sample["expected"].items():
        value = found[name]
        assert (value[: len(expected)] if name == "top_tags" else value) == expected, name
    json.dumps(found, allow_nan=False)


# -- kohya -------------------------------------------------------------------------------------------


def test_a_kohya_header_is_read_with_types() -> None:
    found = facts(KOHYA)
    assert (found.trainer, found.trainer_version) == ("kohya sd-scripts", "f9317052")
    assert (found.network_dim, found.network_alpha, found.conv_dim, found.conv_alpha) == (32, 16.0, 8, 4.0)
    assert (found.steps, found.epoch, found.num_epochs) == (444, 6, 10)
    assert (found.learning_rate, found.text_encoder_lr) == (1.0, (1e-5, 2e-5))
    assert (found.clip_skip, found.noise_offset, found.bucket_info) == (None, None, None)
    assert found.gradient_checkpointing is True
    assert (found.training_seconds, found.started_at) == (955.05, "2024-09-11T15:01:48Z")
    assert (found.resolution, found.batch_size, found.enable_bucket) == ((1024, 768), 5, True)
    assert (found.images, found.distinct_images) == (204, 102)
    assert found.title == "A Title"
    assert found.findings == ()


def test_class_and_arguments_of_an_optimizer_are_kept_apart() -> None:
    found = facts(KOHYA)
    assert (found.optimizer, found.optimizer_path) == ("Prodigy", "prodigyopt.prodigy.Prodigy")
    arguments = {"decouple": True, "weight_decay": 0.5, "betas": [0.9, 0.99], "d_coef": None}
    assert found.optimizer_args == arguments


@pytest.mark.parametrize(
    ("printed", "name", "arguments"),
    [
        ("bitsandbytes.optim.adamw.AdamW8bit", "AdamW8bit", {}),
        ("AdamW()", "AdamW", {}),
        ("a.B(c='x',d=[1, (2, 3)],e=1e-8)", "B", {"c": "x", "d": [1, [2, 3]], "e": 1e-8}),
        ("not a call(", "not a call(", {}),
        ("A(" + "(" * 5_000, "A(" + "(" * 5_000, {}),
    ],
)
def test_optimizers_of_every_shape_are_read(printed: str, name: str, arguments: dict[str, Any]) -> None:
    found = parse_optimizer(printed)
    assert (found.name, found.arguments) == (name, arguments)


def test_tags_are_summed_over_folders_and_sorted_by_count() -> None:
    found = facts(KOHYA)
    assert found.tag_frequencies == {"1girl": 96, "hat": 5, "solo": 5}
    assert found.top_tags == ("1girl", "hat", "solo")


def test_tags_come_from_the_data_sets_where_the_header_has_no_list_of_its_own() -> None:
    found = facts({**KOHYA, "ss_tag_frequency": "{}"})
    assert found.tag_frequencies == {"ignored": 999}


def test_a_folder_is_named_without_the_path_to_it() -> None:
    found = facts(KOHYA)
    assert found.datasets is not None
    assert found.datasets[0]["subsets"][0]["folder"] == "2_img"
    assert "somebody" not in json.dumps(found.to_dict())


def test_an_option_without_a_name_of_its_own_is_kept_with_its_type() -> None:
    found = facts(KOHYA)
    assert found.settings["some_new_option"] == 0.25
    assert found.settings["modelspec.some_new_field"] == "x"
    assert "network_dim" not in found.settings


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("Dynamic resize with sv_fro: 0.9 from 128; None", (128, None, "sv_fro: 0.9")),
        ("dimension is resized from 128 to 32; my words", (128, 32, None)),
        ("dimension is resized from 64 to 16 (conv: 8); x", (64, 16, None)),
        ("Truncated from rank 96 to 8;", (96, 8, None)),
        ("Dynamic resize with sv_ratio: 20 from dim 64", (64, None, "sv_ratio: 20")),
        ("my style, from 1920 to 1950", (None, None, None)),
        ("resized my pictures; from 12 cameras", (None, None, None)),
    ],
)
def test_a_resize_is_read_from_the_comment(comment: str, expected: tuple[Any, ...]) -> None:
    found = facts({"ss_training_comment": comment})
    assert (found.resized_from, found.resized_to, found.resize_method) == expected


@pytest.mark.parametrize(
    ("module", "args", "algorithm"),
    [
        ("networks.lora", {}, "lora"),
        ("networks.lora_flux", {}, "lora"),
        ("networks.dylora", {}, "dylora"),
        ("networks.oft_flux", {}, "oft"),
        ("networks.lora_fa", {}, "lora_fa"),
        ("lycoris.kohya", {"algo": "loha"}, "loha"),
        ("lycoris.kohya", {}, "lora"),
        ("my.own.module", {}, None),
    ],
)
def test_the_algorithm_follows_from_the_network_module(
    module: str, args: dict[str, str], algorithm: str | None
) -> None:
    found = facts({"ss_network_module": module, "ss_network_args": json.dumps(args)})
    assert found.network_algorithm == algorithm


# -- trainers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "config", "trainer"),
    [
        ({"ss_network_module": "networks.lora_wan"}, None, "musubi-tuner"),
        ({"ss_network_module": "networks.lora", "ss_base_model_version": "hunyuan_video"}, None, "musubi-tuner"),
        ({"ss_network_module": "networks.lora_flux", "ss_base_model_version": "flux_kontext"}, None, "musubi-tuner"),
        ({"ss_network_module": "networks.lora_flux", "ss_base_model_version": "flux1"}, None, "kohya sd-scripts"),
        ({"ss_network_module": "lycoris.kohya", "ss_v2": "False"}, None, "kohya sd-scripts"),
        ({"ss_network_module": "networks.lora", "lora_analysis.operation": "extract"}, None, None),
        ({"ss_network_module": "networks.lora", "lora_analysis.operation": "convert"}, None, None),
        ({"ss_network_module": "networks.lora", "lora_analysis.operation": "resize"}, None, "kohya sd-scripts"),
        (
            {"ss_network_module": "networks.lora", "lora_analysis.operation": "convert", "ss_steps": "100"},
            None,
            "kohya sd-scripts",
        ),
        ({"ss_network_module": "lycoris.kohya", "ss_network_dim": "4"}, None, "LyCORIS"),
        ({"software": '{"name": "ai-toolkit", "version": "0.7.21"}', "ss_output_name": "x"}, None, "ai-toolkit"),
        ({"software": "SimpleTuner"}, None, "SimpleTuner"),
        ({"transformer.lora_alpha": "16", "transformer.r": "16"}, None, "SimpleTuner"),
        ({"lycoris_config": "{}"}, None, "SimpleTuner"),
        ({"ot_revision": "23df383", "ss_base_model_version": "sdxl_"}, None, "OneTrainer"),
        ({"modelspec.implementation": "https://github.com/Nerogar/OneTrainer"}, None, "OneTrainer"),
        ({"lora_adapter_metadata": "{}"}, None, "diffusers"),
        ({"unet": '["CrossAttention"]', "unet:0:rank": "4"}, None, "cloneofsimo/lora"),
        ({"trained_with": "diffusion-pipe"}, None, "diffusion-pipe"),
        ({}, {"peft_type": "LORA", "r": 8}, "PEFT"),
        ({"format": "pt"}, {"peft_type": "LORA", "auto_mapping": {"unsloth_fixed": True}}, "unsloth"),
        ({}, {"lora_parameters": {"rank": 8}}, "mlx-lm"),
        ({"ss_base_model_version": "zimage", "ss_output_name": "x"}, None, None),
        ({"format": "pt"}, None, None),
        ({}, None, None),
    ],
)
def test_a_trainer_is_recognised_by_what_it_alone_writes(
    metadata: dict[str, Any], config: dict[str, Any] | None, trainer: str | None
) -> None:
    assert facts(metadata, config).trainer == trainer


def test_versions_come_with_the_trainer() -> None:
    assert facts({"software": '{"name": "ai-toolkit", "version": "0.9.11"}'}).trainer_version == "0.9.11"
    assert facts({}, {"peft_type": "LORA", "peft_version": "0.18.1"}).trainer_version == "0.18.1"


# -- the other grammars --------------------------------------------------------------------------------


def test_onetrainer_states_rank_and_optimizer_in_its_configuration() -> None:
    options = {
        "lora_rank": 16,
        "lora_alpha": 1.0,
        "resolution": "1024",
        "optimizer": {"optimizer": "ADAMW", "weight_decay": 0.01, "eps": None},
        "unet": {"learning_rate": 1e-4},
        "base_model_name": "some/base",
        "rolling_backup": True,
    }
    found = facts({"ot_branch": "master", "ot_revision": "23df383", "ot_config": json.dumps(options)})
    assert (found.network_dim, found.network_alpha, found.resolution) == (16, 1.0, (1024, 1024))
    assert (found.optimizer, found.optimizer_args) == ("ADAMW", {"weight_decay": 0.01})
    assert (found.unet_lr, found.base_model_name, found.branch) == (1e-4, "some/base", "master")
    assert found.settings == {"rolling_backup": True}


def test_several_training_sizes_are_not_a_width_and_a_height() -> None:
    found = facts({"ot_revision": "x", "ot_config": '{"resolution": "512,768"}'})
    assert (found.resolution, found.findings) == (None, ())


def test_ai_toolkit_hides_its_trigger_word_in_the_tags() -> None:
    software = '{"name": "ai-toolkit", "version": "0.7"}'
    found = facts(
        {"software": software, "ss_tag_frequency": '{"1_sbjct": {"sbjct": 1}}', "training_info": '{"step": 7}'}
    )
    assert (found.trigger_phrase, found.steps, found.network_dim) == ("sbjct", 7, None)


def test_diffusers_configures_each_component() -> None:
    inner = {
        "text_encoder.r": 4,
        "text_encoder.lora_alpha": 8,
        "unet.r": 16,
        "unet.lora_alpha": 16,
        "unet.use_rslora": True,
    }
    found = facts({"lora_adapter_metadata": json.dumps(inner)})
    assert found.components == {
        "text_encoder": {"r": 4, "lora_alpha": 8.0, "scale": 2.0},
        "unet": {"r": 16, "lora_alpha": 16.0, "use_rslora": True, "scale": 4.0},
    }
    assert (found.component, found.r, found.scale) == ("text_encoder", 4, 2.0)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": 8, "lora_alpha": 16}, 2.0),
        ({"r": 16, "lora_alpha": 16, "use_rslora": True}, 4.0),
        ({"r": 8, "alpha": 4, "peft_type": "LOHA"}, 0.5),
        ({"r": 0, "lora_alpha": 16}, None),
        ({"r": 8}, None),
    ],
)
def test_the_scale_of_a_peft_configuration(config: dict[str, Any], scale: float | None) -> None:
    assert facts({}, {"peft_type": "LORA", **config}).scale == scale


def test_peft_names_keep_their_order_and_patterns_stay_text() -> None:
    config = {"peft_type": "LORA", "target_modules": ["v_lin", "q_lin"], "modules_to_save": ["score"], "r": 4}
    found = facts({}, config)
    assert (found.target_modules, found.modules_to_save) == (("v_lin", "q_lin"), ("score",))
    assert facts({}, {"peft_type": "LORA", "target_modules": "all-linear"}).target_modules == "all-linear"
    assert facts({}, {"peft_type": "LORA", "exclude_modules": []}).exclude_modules is None


def test_an_adapter_of_a_changed_base_is_called_one() -> None:
    found = facts({}, {"peft_type": "LORA", "init_lora_weights": "pissa_niter_4"})
    assert [finding.code for finding in found.findings] == ["changed-base"]
    assert facts({}, {"peft_type": "LORA", "init_lora_weights": "gaussian"}).findings == ()


def test_mlx_applies_its_scale_and_ignores_alpha() -> None:
    found = facts({}, {"lora_parameters": {"rank": 8, "alpha": 16, "scale": 10.0}, "num_layers": -1, "iters": 100})
    assert (found.format, found.rank, found.scale, found.network_alpha) == ("mlx", 8, 10.0, None)
    assert (found.num_layers, found.steps) == (-1, 100)


def test_cloneofsimo_states_classes_ranks_and_tokens() -> None:
    header = {"unet": '["CrossAttention", "GEGLU"]', "unet:0:rank": "4", "unet:1:rank": "4", "<s1>": "<embed>"}
    found = facts(header)
    assert (found.target_modules, found.network_dim) == (("CrossAttention", "GEGLU"), 4)
    assert found.embedding_tokens == ("<s1>",)


def test_the_sources_of_a_supermerger_file_are_listed_in_order() -> None:
    header = {f"sshs_cp{i}": json.dumps({"ss_output_name": f"lora {i}"}) for i in (10, 2, 0)}
    assert facts({**header, "sshs_cp1": "{}"}).merged_from == ("lora 0", "(unnamed, sshs_cp1)", "lora 2", "lora 10")


def test_a_gguf_header_names_title_and_base() -> None:
    found = facts({"general.architecture": "llama", "general.name": "x", "adapter.lora.alpha": 16.0})
    assert (found.title, found.architecture, found.network_alpha) == ("x", "llama", 16.0)


def test_pictures_are_measured_not_copied() -> None:
    found = facts(
        {"modelspec.thumbnail": "data:image/jpeg;base64," + "A" * 1_000, "ssmd_cover_images": "[" + "B" * 999}
    )
    assert found.thumbnail_chars == 1_023
    assert "AAAA" not in json.dumps(found.to_dict())
    assert "BBBB" not in json.dumps(found.to_dict())


# -- odd values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["(512, 768)", "512,768", "[512, 768]", "512x768", [512, 768], (512, 768), "512 × 768"]
)
def test_a_size_is_read_however_it_is_written(value: Any) -> None:
    assert values.size(value) == (512, 768)


@pytest.mark.parametrize("value", ["None", "", None, "null"])
def test_nothing_is_nothing_for_every_type(value: Any) -> None:
    for parse in (values.text, values.number, values.integer, values.flag, values.size, values.document, values.rank):
        assert parse(value) is None


UNREADABLE: list[tuple[str, Any]] = [
    ("ss_epoch", "six"),
    ("ss_epoch", "1.5"),
    ("ss_epoch", "-1"),
    ("ss_epoch", 10**5_000),
    ("ss_epoch", True),
    ("ss_network_dim", "0"),
    ("ss_network_dim", "-4"),
    ("ss_network_alpha", "inf"),
    ("ss_network_alpha", "1_0"),
    ("ss_gradient_checkpointing", "maybe"),
    ("ss_gradient_checkpointing", 10**5_000),
    ("ss_resolution", "wide"),
    ("ss_output_name", {"a": 1}),
    ("ss_datasets", "[{"),
    ("ss_datasets", '{"a": 1}'),
    ("ss_tag_frequency", "[" * 20_000),
    ("ss_tag_frequency", '{"a": ' * 20_000 + "1" + "}" * 20_000),
    ("ss_tag_frequency", '{"' + "a" * 8_000_000 + '": 1}'),
    ("ss_tag_frequency", '{"img": {"tag": "many"}}'),
    ("ss_training_started_at", "1e300"),
    ("modelspec.resolution", "huge"),
    ("modelspec.tags", 5),
    ("ssmd_rating", "*****"),
    ("training_info", "{broken"),
    ("lora_adapter_metadata", "7"),
    ("ot_config", "[]"),
]


@pytest.mark.parametrize(("key", "value"), UNREADABLE, ids=[f"{i}-{key}" for i, (key, _) in enumerate(UNREADABLE)])
def test_what_cannot_be_read_is_one_warning_that_names_the_key(key: str, value: Any) -> None:
    found = facts({key: value})
    warnings = [finding for finding in found.findings if finding.severity == "warning"]
    assert len(warnings) == 1
    assert key in warnings[0].message
    assert len(warnings[0].message) <= 300
    assert warnings[0].message.isprintable()
    json.dumps(found.to_dict(), allow_nan=False).encode()


def test_a_time_that_runs_backwards_is_no_duration() -> None:
    found = facts({"ss_training_started_at": "200.0", "ss_training_finished_at": "100.0"})
    assert found.training_seconds is None
    assert len(found.findings) == 1


def test_objects_nested_by_hand_do_not_stop_the_reader() -> None:
    deep: Any = 1
    for _ in range(20_000):
        deep = {"a": deep}
    found = facts({"ss_new_option": deep, "ss_datasets": [deep], "ss_tag_frequency": deep, "ot_config": deep})
    json.dumps(found.to_dict(), allow_nan=False)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = sorted(
    {
        *kohya.TABLE,
        *kohya._READ_ELSEWHERE,
        *modelspec.TABLE,
        *additional_networks.TABLE,
        *ai_toolkit.TABLE,
        *gguf.TABLE,
        *onetrainer.TABLE,
        *("ot_config", "software", "training_info", "lora_adapter_metadata", "unet", "unet:0:rank", "sshs_cp0"),
        *("transformer.r", "transformer.lora_alpha", "modelspec.thumbnail"),
    }
)
CONFIG_KEYS = sorted({*peft.TABLE, *mlx.TABLE, "lora_parameters", "enable_lora", "auto_mapping", "lr_schedule"})
HEADER_VALUES = JSON_VALUES | JSON_VALUES.map(lambda value: json.dumps(value)) | JSON_VALUES.map(str)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), HEADER_VALUES, max_size=8),
    st.none() | st.dictionaries(st.sampled_from(CONFIG_KEYS), JSON_VALUES, max_size=6),
)
def test_no_header_raises_and_every_result_is_strict_json(
    metadata: dict[str, Any], config: dict[str, Any] | None
) -> None:
    json.dumps(facts(metadata, config).to_dict(), allow_nan=False).encode()


# -- the module itself -----------------------------------------------------------------------------------


def test_every_table_names_facts_that_exist() -> None:
    known = {field.name for field in fields(HeaderFacts)}
    for table in (
        kohya.TABLE,
        modelspec.TABLE,
        onetrainer.TABLE,
        onetrainer.CONFIG_TABLE,
        ai_toolkit.TABLE,
        ai_toolkit.PROGRESS,
        additional_networks.TABLE,
        peft.TABLE,
        mlx.TABLE,
        mlx.PARAMETERS,
        gguf.TABLE,
    ):
        assert {fact for fact, _ in table.values()} <= known


def test_every_grammar_is_registered() -> None:
    folder = Path(kohya.__file__).parent
    modules = {path.stem for path in folder.glob("*.py") if "def applies(" in path.read_text()}
    assert {grammar.name.replace("-", "_") for grammar in GRAMMARS} == modules


def test_a_header_of_a_hundred_keys_is_read_in_a_millisecond() -> None:
    header = {**KOHYA, **{f"ss_option_{i}": str(i / 7) for i in range(100)}}
    facts(header)
    best = min(_seconds(header) for _ in range(20))
    assert best < 0.003  # 0.5 ms on a free core; the bound allows for a loaded machine


def _seconds(header: dict[str, Any]) -> float:
    start = time.perf_counter()
    facts(header)
    return time.perf_counter() - start
