"""Commands that read what a run wrote: ``view``, ``verify``, ``explain``, ``diff``, ``compare``, ``export``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.cli.errors import PROBLEMS, UsageError, connect_stores, needs_extra, one_line, sentence

if TYPE_CHECKING:  # heavy, and --help is quick
    from pipeline.outputs.view.desk import Desk

_AS_IT_IS = "parquet"
_VIEW = """\
The page is served to this machine alone, below an address that holds a secret. Marks are added to OUT/labels.jsonl;
the next run into OUT leaves out what is marked.

examples:
  hardquery view out/demo
  hardquery view out/demo --port 8765 --no-browser
  hardquery view out/demo --export part.html --n 100
"""


def add_commands(commands: Any) -> None:
    """The commands, with their options."""
    text = "look at an output in a browser: its groups, what was left out and why; mark what is wrong"
    view = commands.add_parser(
        "view",
        help=text,
        description=sentence(text),
        epilog=_VIEW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    view.add_argument("output", metavar="OUT")
    view.add_argument("--port", type=int, default=0, metavar="N", help="port of 127.0.0.1 (default: one that is free)")
    view.add_argument("--no-browser", action="store_true", help="only print the address")
    view.add_argument(
        "--label",
        action="store_true",
        help="ask yes or no about the pairs of `audit sample`, and show nothing else",
    )
    view.add_argument(
        "--export",
        metavar="FILE.html",
        help="serve nothing, but write a part of it as one page that needs no network and no hardquery",
    )
    view.add_argument("--n", type=int, default=50, metavar="N", help="rows of each list in it (default: %(default)s)")
    view.set_defaults(act=_view)

    verify = commands.add_parser("verify", help="check an output against its manifest, schemas, references and ledger")
    verify.add_argument("output", metavar="OUT")
    verify.set_defaults(act=_verify)

    explain = commands.add_parser(
        "explain",
        help="everything known of one query, video or pair",
        epilog="Where an id reads like one of these options, write -- before it: explain OUT -- --help",
    )
    explain.add_argument("output", metavar="OUT")
    explain.add_argument("id", metavar="ID", help="a query id, a video id, or QUERY_ID:VIDEO_ID")
    explain.set_defaults(act=_explain)

    diff = commands.add_parser("diff", help="what changed between two outputs, row by row, and why")
    diff.add_argument("a", metavar="OUT_A")
    diff.add_argument("b", metavar="OUT_B")
    diff.add_argument("--rows", type=int, default=10, metavar="N", help="examples shown a table (default: %(default)s)")
    diff.add_argument("--json", action="store_true", help="print every row that differs, and all counts, as JSON Lines")
    diff.add_argument("--exit-code", action="store_true", help=f"end with exit code {PROBLEMS} where any row differs")
    diff.set_defaults(act=_diff)

    text = "several outputs side by side: yields, strata, margins, agreement with people, what they took"
    compare = commands.add_parser("compare", help=text, description=sentence(text), allow_abbrev=False)
    compare.add_argument("outputs", nargs="+", metavar="OUT")
    compare.add_argument("--json", action="store_true", help="print JSON")
    compare.set_defaults(act=_compare)

    export = commands.add_parser("export", help="write the training set in another format")
    export.add_argument(
        "format",
        metavar="FORMAT",
        help="rankvideo, sentence-transformers, ms-swift, ms-swift-frames, trl, tevatron, clamr, beir or mteb; or "
        "parquet: the output as it is, to be pushed",
    )
    export.add_argument("output", metavar="OUT")
    export.add_argument("--to", metavar="DIR", help="destination (default: OUT/exports/FORMAT)")
    export.add_argument("--video-dir", metavar="DIR", help="name videos as DIR/<file name> instead of by their address")
    export.add_argument(
        "--numeric-ids",
        action="store_true",
        help="number the videos, and link their files into folders of a hundred below DIR/videos, as the release's "
        "reranker expects; videos.tsv says which is which (with --video-dir, there, and without links)",
    )
    export.add_argument(
        "--push", metavar="OWNER/NAME", help="then upload it as this dataset repository of the Hugging Face Hub"
    )
    export.add_argument("--private", action="store_true", help="make that repository a private one, if it is made")
    export.set_defaults(act=_export)


def _view(arguments: argparse.Namespace, _: list[str]) -> int:
    import webbrowser

    from pipeline.outputs.view.desk import Desk
    from pipeline.outputs.view.server import ViewServer

    if not 0 <= arguments.port < 1 << 16:
        raise UsageError(f"--port must be from 0 to 65535, got {arguments.port}")
    connect_stores(arguments.output)
    output = arguments.output.rstrip("/")
    with one_line(ValueError):
        desk = Desk.open(output, _asked(output) if arguments.label else None)
    if arguments.export:
        return _export_page(desk, arguments.export, arguments.n)
    with one_line(OSError), ViewServer(desk, arguments.port) as server:
        print(server.url, flush=True)
        if not arguments.no_browser:
            webbrowser.open(server.url)
        server.serve_forever()
    return 0


def _export_page(desk: Desk, path: str, count: int) -> int:
    from pipeline.outputs.view.offline import offline_page

    if count < 1:
        raise UsageError(f"--n must be at least 1, got {count}")
    if desk.asked is not None:
        raise UsageError("--export shows what the judge says; it does not go with --label")
    with one_line(OSError):
        Path(path).write_text(offline_page(desk, count), "utf-8")
    print(
        f"{path}: {os.path.getsize(path) / 1e6:,.1f} MB; frames and texts are those of the videos: mind their licence"
    )
    return 0


def _asked(output: str) -> list[tuple[str, str]]:
    from pipeline.audit.blind import read_sample

    return [(one.query_id, one.video_id) for one in read_sample(output)]


def _verify(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.manifest import NotAnOutput
    from pipeline.outputs.verify.verify import verdict, verify

    connect_stores(arguments.output)
    with one_line(NotAnOutput):
        problems = verify(arguments.output)
    print(verdict(arguments.output, problems))
    return PROBLEMS if problems else 0


def _explain(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.explain.explain import UnknownId, explain
    from pipeline.outputs.manifest import NotAnOutput

    connect_stores(arguments.output)
    with one_line(NotAnOutput, UnknownId):
        print(explain(arguments.output, arguments.id))
    return 0


def _diff(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.diff.diff import diff
    from pipeline.outputs.diff.text import Examples, diff_text, row_json, summary_json
    from pipeline.outputs.manifest import NotAnOutput

    if arguments.rows < 0:
        raise UsageError(f"--rows must not be negative, got {arguments.rows}")
    connect_stores(arguments.a, arguments.b)
    examples = Examples(arguments.rows)
    with one_line(NotAnOutput):
        if arguments.json:
            found = diff(arguments.a, arguments.b, lambda *_: True, lambda row: print(row_json(row)))
            print(*summary_json(found), sep="\n")
        else:
            found = diff(arguments.a, arguments.b, examples.wanted, examples.add)
            print(diff_text(found, examples), end="")
    return PROBLEMS if arguments.exit_code and found.rows_differ else 0


def _compare(arguments: argparse.Namespace, _: list[str]) -> int:
    import msgspec

    from pipeline.outputs.diff.side_by_side import compare_text, figures_of
    from pipeline.outputs.manifest import NotAnOutput

    outputs = [output.rstrip("/") for output in arguments.outputs]
    connect_stores(*outputs)
    with one_line(NotAnOutput):
        found = [figures_of(output) for output in outputs]
    if arguments.json:
        print(msgspec.json.encode([{"output": each, **one} for each, one in zip(outputs, found, strict=True)]).decode())
    else:
        print(compare_text(outputs, found), end="")
    return 0


def _export(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.export.formats import exports, left_out_by
    from pipeline.outputs.export.hub import files_to_push
    from pipeline.outputs.manifest import NotAnOutput
    from schemas.configuration.section import did_you_mean
    from transforms.storage.files import join

    formats = exports()
    if arguments.format not in (*formats, _AS_IT_IS):
        known = did_you_mean(arguments.format, [*formats, _AS_IT_IS])
        raise UsageError(f"format {arguments.format!r} is not known{known}")
    if arguments.format == _AS_IT_IS and not arguments.push:
        raise UsageError(f"the output is {_AS_IT_IS} already; --push OWNER/NAME uploads it")
    connect_stores(arguments.output, arguments.to)
    destination = arguments.to or join(arguments.output, "exports", arguments.format)
    with one_line(NotAnOutput, ImportError):
        if arguments.format == _AS_IT_IS:
            _push(arguments, arguments.output, files_to_push(arguments.output))
            return 0
        paths = formats[arguments.format](arguments.output, destination, arguments.video_dir, arguments.numeric_ids)
        print(*paths, sep="\n")
        if left_out := left_out_by(arguments.format, arguments.output):
            print(left_out, file=sys.stderr)
        if arguments.push:
            _push(arguments, destination, [os.path.relpath(path, destination) for path in paths])
    return 0


def _push(arguments: argparse.Namespace, folder: str, files: Sequence[str]) -> None:
    from pipeline.outputs.export.hub import push

    with needs_extra("hub"):
        print(push(folder, files, arguments.push, arguments.private))
