import base64
import io
import pickle

import numpy as np
import pytest
from PIL import Image

from prompts.template import load_template
from tests.support.scripted_server import Reply, ScriptedServer, completion
from transforms.engines.openai.caption import OpenAiCaption, jpeg_data_url
from transforms.engines.registry import find_engine
from transforms.protocols.engine import EngineError
from transforms.protocols.frames import Frame
from transforms.protocols.teacher import TeacherFailed
from transforms.workers.engine_at_work import EngineFailed, engine_at_work


def frames_of(*colours, height=90, width=160):
    return [
        Frame(float(second), np.full((height, width, 3), colour, np.uint8)) for second, colour in enumerate(colours)
    ]


def picture_of(part):
    kind, _, data = part["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def caption_with(reply, frames, **options):
    with ScriptedServer([reply]) as server:
        caption = OpenAiCaption(model="vlm", base_url=server.base_url, **options).load().caption(frames)
    return caption.text, server.asked


def test_frames_go_in_time_order_as_jpeg_data_urls_before_one_question():
    caption, asked = caption_with(
        completion("A red field. Then it is blue.\n"), frames_of((255, 0, 0), (0, 0, 255)), max_side=80
    )

    system, user = asked[0].body["messages"]
    pictures = [picture_of(part) for part in user["content"][:2]]
    assert caption == "A red field. Then it is blue."
    assert "three to six factual sentences" in system["content"]
    assert user["content"][2] == {"type": "text", "text": "Describe the video that these 2 pictures were sampled from."}
    assert [picture.size for picture in pictures] == [(80, 45), (80, 45)]
    assert [max(range(3), key=picture.getpixel((40, 22)).__getitem__) for picture in pictures] == [0, 2]


def test_a_small_frame_is_not_enlarged():
    (frame,) = frames_of((9, 9, 9), height=30, width=20)

    assert picture_of({"image_url": {"url": jpeg_data_url(frame.image, 512)}}).size == (20, 30)


def test_thoughts_are_no_part_of_a_caption():
    frames = frames_of((1, 2, 3))

    assert caption_with(completion("<think>Let me see.</think>\n\nA dark room."), frames)[0] == "A dark room."
    assert caption_with(completion("A dark room.", reasoning="Let me see."), frames)[0] == "A dark room."


def test_an_empty_reply_is_an_empty_caption():
    assert caption_with(completion(""), frames_of((1, 2, 3)))[0] == ""
    assert caption_with(completion("<think>Well.</think> "), frames_of((1, 2, 3)))[0] == ""


def test_a_caption_that_was_cut_off_is_a_failure():
    with pytest.raises(TeacherFailed, match="raise the option max_tokens") as failed:
        caption_with(completion("A dark", finish="length"), frames_of((1, 2, 3)))
    assert failed.value.permanent


@pytest.mark.parametrize(
    "reply", [completion(None, refusal="I cannot describe people."), completion("A b", finish="content_filter")]
)
def test_a_refusal_is_no_caption(reply):
    with pytest.raises(TeacherFailed, match=r"refused to describe the video: (I cannot|A b)") as failed:
        caption_with(reply, frames_of((1, 2, 3)))
    assert failed.value.permanent


def test_a_caption_is_asked_for_with_a_seed():
    assert caption_with(completion("A tram."), frames_of((1, 2, 3)))[1][0].body["seed"] == 0


def test_a_refused_key_stops_the_run():
    with pytest.raises(EngineError, match="HTTP 401"):
        caption_with(Reply({"error": {"message": "bad key"}}, status=401), frames_of((1, 2, 3)))


def test_the_stamp_follows_the_prompt_and_the_options(monkeypatch):
    engine = OpenAiCaption(model="vlm", base_url="http://localhost/v1")
    before = engine.stamp()
    assert OpenAiCaption(model="vlm", base_url="http://localhost/v1", max_side=64).stamp() != before

    monkeypatch.setitem(vars(load_template("caption")), "version", "another")
    assert engine.stamp().fingerprint != before.fingerprint


def test_a_nonsensical_size_is_refused():
    with pytest.raises(EngineError, match="max_side must be at least 16"):
        find_engine("caption", {"engine": "openai", "model": "m", "base_url": "http://localhost/v1", "max_side": 1})


def test_a_server_that_refuses_the_plainest_question_is_an_error_before_any_work():
    refusal = Reply({"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}}, 400)
    with ScriptedServer([refusal]) as server, pytest.raises(EngineError, match=r"max_tokens: null, temperature: null"):
        OpenAiCaption(model="vlm", base_url=server.base_url).check()


def test_a_refused_caption_says_so_to_the_journal_that_waits_for_an_answer():
    refusal = Reply({"error": {"message": "no pictures"}}, 400)
    with ScriptedServer([refusal]) as server:
        captioner = OpenAiCaption(model="vlm", base_url=server.base_url).load()
        with pytest.raises(EngineFailed, match="RequestRefused: HTTP 400") as failed, engine_at_work():
            captioner.caption(frames_of((1, 2, 3)))

    assert (failed.value.refused, failed.value.permanent) == (True, True)
    assert pickle.loads(pickle.dumps(failed.value)).refused
