"""A part of an output as one page that needs no server: the least sure groups, and some of what was left out."""

from __future__ import annotations

import base64
import hashlib
import math
from typing import Any

import msgspec

from pipeline.outputs.tables import Row
from pipeline.outputs.view.desk import Desk
from pipeline.outputs.view.index import Index
from pipeline.outputs.view.lists import BY_VIDEO, SORTS
from pipeline.outputs.view.server import page_file, plain
from schemas.video import spread
from transforms.media.thumbnail import thumbnail

_FRAMES = 6  # of a video, evenly spread
_LISTS = ("groups", BY_VIDEO, "dropped", "rejections", "failures")


def offline_page(desk: Desk, count: int) -> str:
    """The page with ``count`` rows of each list, and all that they lead to: queries, their pairs, videos with frames.

    Groups are those of which the judge is least sure. No file of this machine is named by more than its own name.
    """
    about = desk.about()
    lists = {of: _rows(desk, of, count) for of in _LISTS if of != BY_VIDEO or of in about["counts"]}
    wanted = dict.fromkeys(each["row"]["query_id"] for rows in lists.values() for each in rows)
    queries = {query_id: desk.query(query_id) for query_id in wanted if query_id}
    pairs = [pair for query in queries.values() for pair in query["pairs"] if pair["kept"] or pair["is_positive"]]
    videos = {video_id: _video(desk, video_id) for video_id in dict.fromkeys(pair["video_id"] for pair in pairs)}
    about = {
        **about,
        "counts": {of: len(rows) for of, rows in lists.items()},
        "part": f"{len(lists['groups']):,} of {desk.lookup.tables.count('ranking'):,} groups, {SORTS['doubt']}",
    }
    return _page(plain({"about": about, "lists": lists, "queries": queries, "videos": videos}))


def _rows(desk: Desk, of: str, count: int) -> list[dict[str, Any]]:
    """Rows of a list, each with the values that it is filtered by, sorted by and searched in."""
    desk.facets(of)
    index = desk.index(of)
    numbers = index.chosen({}, "doubt")[:count].tolist()
    shown = desk.list(of, {}, "doubt", first=0, count=count)["rows"]
    return [_filtered(index, number, row) for number, row in zip(numbers, shown, strict=True)]


def _filtered(index: Index, number: int, row: Row) -> dict[str, Any]:
    row = {**row, "uri": row["file"]} if "uri" in row else row
    said = (row.get(name) for name in ("query", "text", "detail", "message", "file", "query_id", "video_id"))
    measures = {name: float(values[number]) for name, values in index.measures.items()}
    return {
        "row": row,
        "facets": index.values_of(number),
        "measures": {name: value for name, value in measures.items() if math.isfinite(value)},
        "text": "\n".join(filter(None, said)).lower(),
    }


def _video(desk: Desk, video_id: str) -> dict[str, Any]:
    """A video as the page shows it, with some frames in it, and without where its file lies."""
    video = desk.video(video_id)
    places = list(spread(len(video["frame_times_s"] or ()), _FRAMES))
    return {
        **video,
        "uri": video["file"],
        "plays": False,
        "frame_times_s": [video["frame_times_s"][place] for place in places],
        "frames": [thumbnail(desk.frame(video_id, place)) for place in places],
    }


def _page(data: Any) -> str:
    """The page's own files put into it; it may run these scripts and no other, and load nothing."""
    style = page_file("view.css").decode()
    scripts = [page_file(name).decode() for name in ("offline.js", "view.js")]
    allowed = " ".join(_hash(script) for script in scripts)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    held = msgspec.json.encode(data).decode().replace("<", "\\u003c")  # no text can end the element
    return (
        page_file("page.html")
        .decode()
        .replace(
            '<meta charset="utf-8">',
            f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
        )
        .replace('<link rel="stylesheet" href="view.css">', f"<style>{style}</style>")
        .replace(
            '<script src="view.js"></script>',
            f'<script type="application/json" id="data">{held}</script>\n'
            + "\n".join(f"<script>{script}</script>" for script in scripts),
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
