import io
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from PIL import Image

from pipeline.config import load_recipe
from pipeline.outputs.report.histogram import histogram
from pipeline.outputs.report.report import choose_examples
from pipeline.outputs.report.summary import summarize
from schemas.difficulty import DIMENSIONS
from tests.support.tiny_output import tiny_rows, write_tiny
from transforms.media.thumbnail import thumbnail

HOSTILE = "<script>alert('x')</script><img src=//evil.example/x onerror=alert(1)>"


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, write_tiny(folder)


@pytest.fixture(scope="module")
def page(output):
    return (output[0] / "report.html").read_text()


def test_the_page_needs_nothing_from_outside_and_runs_nothing(page):
    assert not re.search(r"<(script|link|iframe|object|form)\b", page)
    assert set(re.findall(r'\b(?:src|href)="([a-z]+:)', page)) == {"data:"}
    assert "url(" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize(("settings", "more"), [([], ""), (["seed=8"], "; some of its settings were changed")])
def test_a_recipe_of_the_project_tells_of_itself_and_that_it_was_changed_where_it_was(output, settings, more):
    folder, manifest = output
    demo = load_recipe("demo", settings)
    made_by = replace(manifest, recipe=demo.as_dict(), recipe_fingerprint=demo.fingerprint)

    assert summarize(str(folder), made_by).recipe_told == demo.description + more


def test_untrusted_text_is_escaped_wherever_it_is_shown(tmp_path):
    rows = tiny_rows()
    for _, row in rows["videos"]:
        row |= {"caption": HOSTILE, "uri": HOSTILE}
        row["metadata"] |= {"title": HOSTILE, "description": HOSTILE}
        for part in (*row["asr"], *row["ocr"]):
            part["text"] = HOSTILE
    for _, row in rows["ranking"]:
        row |= {"query": HOSTILE, "rationale": HOSTILE}
        for candidate in row["candidates"]:
            candidate["rationale"] = HOSTILE
    for _, row in rows["failures"]:
        row |= {"message": HOSTILE, "uri": HOSTILE, "error_class": HOSTILE}
    write_tiny(tmp_path, rows)

    page = (tmp_path / "report.html").read_text()

    assert "<script" not in page
    assert "onerror=alert" in page  # shown as text …
    assert not re.search(r"<[^>]*onerror", page)  # … and in no tag
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'<img src="([^"]*)"', page))


def test_losses_are_shown_with_their_reasons(page):
    assert "lost 2: 1 FileNotFoundError, 1 UndecodableVideo" in page
    assert "lost 3: 1 copies evidence, 1 near duplicate, 1 too short" in page
    assert "moov atom not found &lt;script&gt;" in page


def test_the_shares_of_queries_that_hinge_on_something_are_shown_of_those_kept_and_of_those_dropped(page):
    table = page.partition("Queries that hinge on it")[2].partition("</table>")[0]
    shares = re.findall(r"<tr><th>([a-z ]+)</th><td.*?(\d+ %)</td>.*?(\d+ %)</td></tr>", table)

    assert [name for name, *_ in shares] == [name.replace("_", " ") for name in DIMENSIONS]
    assert ("causal", "100 %", "100 %") in shares
    assert ("negation", "0 %", "0 %") in shares
    assert ("multi hop", "47 %", "71 %") in shares


def test_queries_that_nobody_rated_have_no_such_table(tmp_path):
    rows = tiny_rows()
    for _, row in rows["queries"]:
        row["difficulty"] = None
    write_tiny(tmp_path, rows)

    assert "hinge on it" not in (tmp_path / "report.html").read_text()


def test_contents_lead_to_every_part_and_headings_never_skip_a_level(page, output):
    ids = set(re.findall(r'<h2 id="([a-z-]+)"', page))
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", page)]

    assert set(re.findall(r'href="#([a-z-]+)"', page)) <= ids
    assert {"examples", "left-out", "failures"} <= set(re.findall(r'href="#([a-z-]+)"', page))
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert f"<h1>{output[0].name}</h1>" in page  # the output's own name


def test_every_column_has_a_name_and_what_scrolls_can_be_reached_by_keyboard(page):
    assert "<th></th>" not in page
    assert all('tabindex="0"' in tag for tag in re.findall(r'<[a-z]+ class="(?:card )?scroll"[^>]*>', page))


def test_every_reason_for_leaving_queries_out_has_an_example(page):
    table = page.partition('id="left-out"')[2].partition("</table>")[0]
    dropped = [row for _, row in tiny_rows()["queries"] if row["verdict"] != "kept"]

    assert table.count("<tr><td") == len({(row["stage"], row["reason"]) for row in dropped})
    assert "too short" in table
    assert "3 words, at least 4" in table


def test_a_candidate_names_its_file(page):
    assert re.search(r"<dt>file</dt><dd><bdi>[a-z]+-\d\.mp4</bdi></dd>", page)


def test_six_groups_are_shown_with_frames_of_every_candidate(page, output):
    folder, manifest = output
    chosen = choose_examples(manifest.tables(str(folder)))

    assert len(chosen) == page.count('<article class="card group">') == 6
    assert page.count("<img ") == 3 * sum(len(row["candidates"]) for row in chosen)


def test_of_each_variant_the_group_is_shown_in_which_the_judge_is_least_sure(output):
    def doubt(row):
        return min(abs(each["delta"]) for each in row["candidates"] if each["delta"] is not None)

    groups = [row for _, row in tiny_rows()["ranking"]]

    for row in choose_examples(output[1].tables(str(output[0])))[:5]:
        assert doubt(row) == min(doubt(other) for other in groups if other["variant"] == row["variant"])


def test_the_groups_shown_cover_every_variant_before_one_repeats(output):
    folder, manifest = output

    chosen = choose_examples(manifest.tables(str(folder)))

    assert Counter(row["variant"] for row in chosen[:5]) == dict.fromkeys(
        ("all", "asr", "caption", "metadata", "ocr"), 1
    )
    assert chosen == choose_examples(manifest.tables(str(folder)))


def test_an_output_with_nothing_in_it_still_has_a_page(tmp_path):
    empty = {name: [] for name in tiny_rows()}

    write_tiny(tmp_path, empty)

    page = (tmp_path / "report.html").read_text()
    assert "No query kept a positive" in page
    assert "reported no probability" in page


def test_videos_without_frames_say_so(tmp_path):
    rows = tiny_rows()
    for _, row in rows["videos"]:
        row |= {"frames": [], "frame_times_s": []}

    write_tiny(tmp_path, rows)

    page = (tmp_path / "report.html").read_text()
    assert "no frames in the shards" in page
    assert "<img " not in page


def test_a_thumbnail_is_a_small_jpeg():
    data = io.BytesIO()
    Image.new("RGB", (1920, 1080), "red").save(data, "JPEG")

    url = thumbnail(data.getvalue())

    assert url.startswith("data:image/jpeg;base64,")
    assert len(url) < 6000


def test_bytes_that_are_no_picture_give_no_thumbnail():
    assert thumbnail(b"\xff\xd8 not a picture") == thumbnail(b"") == ""


def test_the_histogram_counts_every_pair_once():
    drawn = histogram({("no", -23): 3, ("no", -22): 1, ("yes", 20): 4}, [("α1", -6.0), ("α2", -8.0)])

    titles = [column.title for column in drawn.columns]

    assert titles == [
        "-11.5 to -11 nats: 0 yes, 3 no",
        "-11 to -10.5 nats: 0 yes, 1 no",
        "10 to 10.5 nats: 4 yes, 0 no",
    ]
    assert max(column.no_height + column.yes_height for column in drawn.columns) == drawn.bottom - drawn.top


def test_bins_are_merged_when_margins_spread_far_and_stay_on_the_canvas():
    drawn = histogram({("no", -2001): 1, ("no", -2000): 1, ("yes", 1999): 5}, [("α1", -6.0)])

    assert sum(int(re.search(r"(\d+) yes", column.title)[1]) for column in drawn.columns) == 5
    assert sum(int(re.search(r"(\d+) no", column.title)[1]) for column in drawn.columns) == 2
    assert len(drawn.columns) <= 3
    assert all(drawn.left <= c.x and c.x + c.width <= drawn.right for c in drawn.columns)


def test_thresholds_outside_all_margins_are_drawn_too():
    drawn = histogram({("yes", 4): 1}, [("α1", -6.0), ("α2", -8.0)])

    assert [mark.label for mark in drawn.thresholds] == ["α1 = −6", "α2 = −8"]
    assert all(drawn.left <= mark.at <= drawn.right for mark in drawn.thresholds)


def test_without_margins_there_is_no_histogram():
    assert histogram({}, [("α1", -6.0)]) is None
