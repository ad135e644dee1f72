"""What others wrote cannot steer a terminal or a page."""

from html.parser import HTMLParser

import pytest

from pipeline.outputs.explain.explain import explain
from pipeline.outputs.plain_text import page
from tests.support.tiny_output import tiny_rows, write_tiny
from tests.support.untrusted import (
    MARK,
    PAYLOADS,
    assert_visible,
)


class Page(HTMLParser):
    """Collects what a browser would run, load or show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def dirty_output(tmp_path_factory):
    """An output whose tables hold attacks in every column of free text, as if nothing had cleaned them before."""
    attack = PAYLOADS["markup"] + PAYLOADS["controls"] + PAYLOADS["direction"]
    rows = tiny_rows()
    for _, row in rows["videos"]:
        row["caption"] = attack
        row["metadata"] = {**row["metadata"], "title": attack, "description": attack}
        row["uri"] += attack
        for segment in (*row["asr"], *row["ocr"]):
            segment["text"] = attack
    for _, row in rows["queries"]:
        row["rationale"], row["reply"] = attack, attack
    for _, row in rows["judgements"]:
        row["rationale"], row["reply"] = attack, attack
    for _, row in rows["ranking"]:
        row["query"], row["rationale"] = attack, attack
        for candidate in row["candidates"]:
            candidate["rationale"] = attack
    for _, row in rows["failures"]:
        row["message"], row["uri"] = attack, attack
    for _, row in rows["rejections"]:
        row["detail"] = attack
    output = tmp_path_factory.mktemp("dirty") / "out"
    write_tiny(output, rows)
    return output, rows


def test_the_report_shows_attacks_as_text_and_runs_none_of_them(dirty_output):
    output, _ = dirty_output
    html = (output / "report.html").read_text("utf-8")
    shown = Page()
    shown.feed(html)

    assert MARK in shown.text
    assert "<script>alert" in shown.text
    assert "script" not in shown.tags
    assert not [name for name, _ in shown.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/jpeg;base64,") for name, value in shown.attributes if name == "src")
    links = {value for name, value in shown.attributes if name == "href"}
    assert all(link.startswith("#") or link in ("README.md", "manifest.json") for link in links)
    assert not [name for name, _ in shown.attributes if name in ("srcdoc", "action", "formaction")]
    assert_visible(html)


def test_the_card_holds_no_attack(dirty_output):
    output, _ = dirty_output
    card = (output / "README.md").read_text("utf-8")

    assert MARK not in card
    assert_visible(card)


def test_explain_prints_attacks_as_text(dirty_output):
    output, rows = dirty_output
    judged = rows["judgements"][0][1]
    ids = [judged["query_id"], judged["video_id"], f"{judged['query_id']}:{judged['video_id']}"]

    for story in (explain(str(output), wanted) for wanted in ids):
        assert MARK in story
        assert_visible(story)


def test_a_page_of_plain_text_holds_no_control_characters():
    assert page(iter(["a\x1b[31mb\u202e\x07", "c\u00a0d"])) == "a\ufffd[31mb\ufffd\ufffd\nc\u00a0d\n"
