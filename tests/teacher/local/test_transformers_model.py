"""Memory, weights and files of a language model in this process, and what is refused before any work."""

import json
import shutil
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from tests.support.local_teacher import (
    ask_all,
    engine_of,
    request_of,
    writing_request,
)
from tests.support.talking_llm import CONTEXT
from transforms.engines.local.language_model import language_model
from transforms.engines.local.transformers_teacher import LocalTeacher
from transforms.protocols.engine import EngineError, loaded
from transforms.protocols.teacher import ContextOverflow, TeacherFailed
from transforms.workers.window import shut_down


def test_a_prompt_that_leaves_no_room_is_refused_before_anything_is_computed(qwen_folder, monkeypatch):
    engine = engine_of(qwen_folder, max_new_tokens=CONTEXT - 300)
    monkeypatch.setattr(LocalTeacher, "_answer", None)
    monkeypatch.setattr(LocalTeacher, "_drafts", None)

    with pytest.raises(
        ContextOverflow, match=rf"\d+ tokens and {CONTEXT - 292} of reply exceed the model's {CONTEXT}"
    ) as e:
        loaded(engine).reply(request_of())
    assert e.value.permanent
    assert engine.prompt_tokens == 292


def test_a_batch_that_does_not_fit_into_memory_is_halved(qwen_folder, monkeypatch):
    import torch

    teacher = LocalTeacher(engine_of(qwen_folder), language_model(str(qwen_folder), "main", "cpu", "auto"))
    requests = [request_of(number) for number in range(8)]
    expected = [reply.text for reply in ask_all(teacher, requests)]
    write, sizes = teacher._model.write, []

    def write_few(rows, *rest):
        sizes.append(len(rows))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return write(rows, *rest)

    monkeypatch.setattr(teacher._model, "write", write_few)
    assert [reply.text for reply in ask_all(teacher, requests)] == expected
    assert sizes.count(1) == 8
    assert max(sizes) > 1


def test_a_request_that_does_not_fit_alone_fails_with_its_size(qwen_folder, monkeypatch):
    import torch

    def never(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    teacher = LocalTeacher(engine_of(qwen_folder), language_model(str(qwen_folder), "main", "cpu", "auto"))
    monkeypatch.setattr(teacher._model, "write", never)

    with pytest.raises(TeacherFailed, match=r"out of memory on \d+ tokens of prompt and up to 24 of reply") as failed:
        teacher.reply(request_of())
    assert not failed.value.permanent


def test_the_end_of_the_run_ends_replies_that_are_being_written(rambling_folder, monkeypatch):
    teacher = loaded(engine_of(rambling_folder, max_new_tokens=2000))
    at_work = threading.Event()
    write = teacher._model.write
    monkeypatch.setattr(teacher._model, "write", lambda *given: (at_work.set(), write(*given))[1])

    with ThreadPoolExecutor(1) as threads:
        reply = threads.submit(teacher.reply, writing_request())
        assert at_work.wait(300)
        shut_down()
        with pytest.raises(CancelledError):
            reply.result(10)


def test_engines_that_differ_in_how_they_ask_share_the_weights(qwen_folder):
    writer, judge = engine_of(qwen_folder, temperature=0.8), engine_of(qwen_folder, batch_size=2)

    assert loaded(writer)._model is loaded(judge)._model


def test_a_stamp_follows_from_the_bytes_and_not_from_where_they_lie(qwen_folder, tmp_path):
    copy = shutil.copytree(qwen_folder, tmp_path / "copy")
    stamp = engine_of(qwen_folder).stamp()

    assert engine_of(copy).stamp() == stamp
    assert engine_of(qwen_folder, batch_size=1, device="auto", confidence=[]).stamp() == stamp
    assert engine_of(qwen_folder, temperature=0.5).stamp() != stamp
    other = shutil.copytree(qwen_folder, tmp_path / "other")
    (other / "chat_template.jinja").write_text("other")
    assert engine_of(other).stamp() != stamp


def drop_weights(folder):
    (folder / "model.safetensors").unlink()


def drop_one_of_two_shards(folder):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "missing"),
    [
        (drop_weights, r"has no weights \(\*\.safetensors\); copy or download it again"),
        (drop_one_of_two_shards, "has no model-00002.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    ],
    ids=["no weights", "half the weights", "no configuration"],
)
def test_a_folder_that_is_not_whole_is_refused_before_any_work(qwen_folder, tmp_path, spoil, missing):
    folder = shutil.copytree(qwen_folder, tmp_path / "llm")
    engine_of(folder).check()
    spoil(folder)

    with pytest.raises(EngineError, match=missing):
        engine_of(folder).check()


@pytest.mark.parametrize("model", ["/nowhere/model", "nobody/no-such-model", "not a name"])
def test_a_model_that_is_not_on_this_machine_is_an_error_that_names_the_fix(model, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(EngineError, match=f"'{model}' is neither a folder nor in .* or run: hf download {model}"):
        engine_of(model).check()


def test_a_context_that_has_no_room_for_a_prompt_is_refused(qwen_folder):
    with pytest.raises(EngineError, match=f"leaves no room for a prompt: the model reads {CONTEXT} tokens"):
        engine_of(qwen_folder, max_new_tokens=CONTEXT).check()


def test_a_model_without_a_chat_template_is_refused(qwen_folder, tmp_path):
    folder = shutil.copytree(qwen_folder, tmp_path / "llm")
    (folder / "chat_template.jinja").unlink()

    with pytest.raises(EngineError, match="cannot be loaded on cpu: its tokenizer has no chat template"):
        engine_of(folder).load()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_file_that_is_broken_is_an_error_of_one_line(qwen_folder, tmp_path, name):
    folder = shutil.copytree(qwen_folder, tmp_path / "llm")
    (folder / name).write_bytes((folder / name).read_bytes()[:100])

    with pytest.raises(EngineError, match="cannot be loaded on cpu: ") as error:
        engine_of(folder).load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("device", "gpu"),
        ("batch_size", 0),
        ("temperature", -1.0),
        ("confidence", ["logprobs_prefill"]),
        ("dtype", "int8"),
    ],
)
def test_an_option_out_of_range_is_refused(qwen_folder, option, value):
    with pytest.raises(EngineError, match=option):
        engine_of(qwen_folder, **{option: value})
