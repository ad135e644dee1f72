import json
import shutil
import socket
import threading

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from transformers import AutoModel, AutoModelForImageTextToText, BertConfig

from tests.support.tiny_training import tiny_config, tiny_model
from tests.support.tiny_vlm import FAMILIES
from trainer.config.config import LoraConfig
from trainer.data.clips import Clip
from trainer.model.hub import OutOfReach, require_in_reach
from trainer.model.models import (
    LORA_TARGETS,
    ModelError,
    Source,
    add_adapter,
    check_adapter,
    load_for_scoring,
    load_model,
    load_processor,
    merge_adapter,
    needs_merge,
)
from trainer.model.prompt import Prompt
from trainer.model.score import pair_scores

LORA = "lora={rank: 4, alpha: 8, dropout: 0.0}"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def stage_1(base, tmp_path_factory):
    """A run whose adapter has been trained: its numbers are not those it starts with."""
    run = tmp_path_factory.mktemp("run")
    model = add_adapter(AutoModelForImageTextToText.from_pretrained(base), LoraConfig(rank=4, alpha=8, dropout=0.0))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    model.save_pretrained(run / "model")
    return run


def scores(model, config):
    prompt = Prompt(load_processor(config), config.ranking.prompt)
    rng = np.random.default_rng(0)
    clips = [Clip(rng.integers(0, 255, (4, 32, 32, 3), np.uint8), (0.0, 0.5, 1.0, 1.5)) for _ in range(2)]
    with torch.no_grad():
        return pair_scores(model.eval(), prompt.for_scoring(clips, ["a red ball", "ball"]), prompt.answers())


def of_stage_1(base, stage_1):
    model = AutoModelForImageTextToText.from_pretrained(base)
    return scores(PeftModel.from_pretrained(model, stage_1 / "model"), tiny_config(base))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_reaches_the_language_model_and_nothing_else(family, tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(tiny_model(tmp_path, family))

    adapted = add_adapter(model, LoraConfig(rank=2, alpha=4))

    names = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert len(names) == 2 * 7 * 2  # two matrices for seven linear layers of two decoder layers
    assert all(".language_model." in name for name in names)


def test_a_run_names_its_model_by_its_folder(base, stage_1):
    assert Source.of(str(stage_1)) == Source(str(base), stage_1 / "model")
    assert Source.of(str(stage_1 / "model")) == Source.of(str(stage_1))
    assert Source.of(str(base)) == Source(str(base))
    assert Source.of("Qwen/Qwen3-VL-8B-Instruct") == Source("Qwen/Qwen3-VL-8B-Instruct")


def test_the_second_stage_goes_on_from_the_adapter_of_the_first(base, stage_1, tmp_path):
    config = tiny_config(stage_1, LORA)

    model = load_model(config, tmp_path / "merged")

    torch.testing.assert_close(scores(model, config), of_stage_1(base, stage_1))
    assert not torch.allclose(scores(model, config), scores(AutoModelForImageTextToText.from_pretrained(base), config))
    assert all(p.requires_grad for name, p in model.named_parameters() if "lora_" in name)


def test_the_second_stage_may_put_a_new_adapter_on_the_merged_first(base, stage_1, tmp_path):
    config = tiny_config(stage_1, LORA, "adapter=merge")
    assert needs_merge(config)

    merge_adapter(config, tmp_path / "merged")
    model = load_model(config, tmp_path / "merged")
    model.save_pretrained(tmp_path / "second")

    torch.testing.assert_close(scores(model, config), of_stage_1(base, stage_1), atol=1e-5, rtol=1e-5)
    # The new adapter names as its base what it was trained on: loading it brings the first stage back.
    assert Source.of(str(tmp_path / "second")).base == str(tmp_path / "merged")


def test_a_run_that_was_moved_finds_what_its_adapter_was_trained_on(stage_1, tmp_path):
    shutil.copytree(stage_1, tmp_path / "moved")
    (tmp_path / "moved" / "merged").mkdir()

    assert Source.of(str(tmp_path / "moved")) == Source(str(tmp_path / "moved/merged"), tmp_path / "moved/model")


@pytest.mark.filterwarnings("ignore:You are trying to modify a model")
def test_an_adapter_that_was_started_anew_is_noticed(stage_1):
    again = AutoModelForImageTextToText.from_pretrained(stage_1 / "model")  # puts the adapter on the base model …
    with pytest.warns(UserWarning, match="adapter"):
        lost = get_peft_model(again, PeftLoraConfig(r=4, lora_alpha=8, target_modules=LORA_TARGETS))  # … and resets it

    with pytest.raises(ModelError, match="is not in the model"):
        check_adapter(lost, stage_1 / "model")


def test_an_adapter_that_was_never_trained_is_refused_as_a_first_stage(base, tmp_path):
    add_adapter(AutoModelForImageTextToText.from_pretrained(base), LoraConfig(rank=4, alpha=8)).save_pretrained(
        tmp_path
    )

    with pytest.raises(ModelError, match="changes nothing"):
        load_model(tiny_config(tmp_path, LORA), tmp_path / "merged")


def test_another_rank_than_the_adapters_is_refused(stage_1, tmp_path):
    with pytest.raises(ModelError, match="has rank 4 and alpha 8, not 16 and 32"):
        load_model(tiny_config(stage_1, "lora={rank: 16, alpha: 32}"), tmp_path)


def test_all_weights_of_an_adapted_model_are_trained_only_after_a_merge(stage_1, tmp_path):
    with pytest.raises(ModelError, match="set adapter=merge"):
        load_model(tiny_config(stage_1), tmp_path)


def test_an_adapter_in_bf16_keeps_its_own_weights_in_32_bits(base, tmp_path):
    model = load_model(tiny_config(base, LORA, "precision=bf16"), tmp_path)

    kinds = {("lora_" in name, parameter.dtype) for name, parameter in model.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


def test_an_adapter_is_trained_further_with_the_dropout_that_is_asked_for(stage_1, tmp_path):
    model = load_model(tiny_config(stage_1, "lora={rank: 4, alpha: 8, dropout: 0.3}"), tmp_path)

    layers = {module.p for name, module in model.named_modules() if name.endswith("lora_dropout.default")}
    assert layers == {0.3}


def test_an_adapter_remembers_the_revision_of_its_base(base, tmp_path):
    model = load_model(tiny_config(base, LORA, "revision=0a1b2c"), tmp_path / "merged")
    model.save_pretrained(tmp_path / "run" / "model")

    source = Source.of(str(tmp_path / "run"))

    assert source.revision == "0a1b2c"
    assert Source.of("Qwen/Qwen3-VL-8B-Instruct", "3d4e5f").revision == "3d4e5f"


def test_a_model_without_a_known_language_model_is_refused_in_one_line():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

    with pytest.raises(ModelError, match=r"BertModel has no linear layers that match .* set lora=null"):
        add_adapter(AutoModel.from_config(BertConfig(**sizes)), LoraConfig())


def test_a_base_that_is_gone_is_named_in_one_line(stage_1, tmp_path):
    shutil.copytree(stage_1, tmp_path / "run")
    config = tmp_path / "run" / "model" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(tmp_path / "gone")}))

    with pytest.raises(ModelError, match="gone' cannot be loaded") as caught:
        load_for_scoring(tiny_config(tmp_path / "run", LORA))
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_here_is_asked_for_once_where_the_hub_is_out_of_reach(monkeypatch):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                asked.append(connection.recv(65536).split()[0])
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
        said = r"'some/model' is neither a folder nor .* run: hf download some/model"
        with pytest.raises(OutOfReach, match=said) as caught:
            require_in_reach("some/model", None)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert asked == [b"HEAD"], caught.value
