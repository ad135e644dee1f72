"""``hardquery embed`` and ``hardquery retrieve``: an output's videos as vectors, and queries searched among them."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from runners.cli.errors import UsageError, connect_stores, needs_extra, one_line, sentence
from schemas.example import Split

if TYPE_CHECKING:
    from schemas.query import Candidates
    from trainer.data.clips import Clips
    from trainer.retriever.encoder import Encoder
    from transforms.protocols.embed import Embedding
    from transforms.search.pack import Pack

_AT_ONCE = 256  # queries

_EMBED = """\
A pack is one file: the vectors of every video of OUT that has frames (emit.frames in the recipe). `hardquery retrieve`
searches it with queries of the same model, and refuses those of another.

example:
  hardquery embed --data out/set --model runs/retriever --out out/set.pack
"""

_RETRIEVE = """\
A video's score is the sum over its levels (frames, and frames in their order) of MeanMaxSim: the mean over the query's
tokens of the best cosine with a vector of the video. All videos of OUT that have frames are scored, whatever their
split; beyond 20,000, the first 2000 by vectors pooled to four a level are. The search is exact: the same vectors give
the same run on any machine, for any number of queries.

examples:
  hardquery retrieve --data out/set --model runs/retriever --out run.trec
  hardquery retrieve --data out/set --model runs/retriever --pack out/set.pack --queries queries.tsv --out run.trec
  hardquery evaluate --qrels out/set/qrels.trec --run run.trec --baseline out/set/run.trec
"""


def add_commands(commands: Any) -> None:
    """The commands, with their options."""
    text = "write the vectors of an output's videos, by a trained retriever, as one file to search"
    embed = _command(commands, "embed", text, _EMBED)
    embed.add_argument("--out", required=True, metavar="FILE", help="the pack: a local file")

    text = "search an output's videos with a trained retriever: a TREC run of its queries, or of others"
    retrieve = _command(commands, "retrieve", text, _RETRIEVE)
    retrieve.add_argument("--out", required=True, metavar="FILE", help="the TREC run: a local file")
    retrieve.add_argument("--pack", metavar="FILE", help="what `hardquery embed` wrote (default: embed now)")
    which = retrieve.add_mutually_exclusive_group()
    splits = get_args(Split)
    which.add_argument("--split", choices=splits, default="validation", help="whose queries (default: %(default)s)")
    which.add_argument("--queries", metavar="FILE", help="other queries: id, tab, text")
    retrieve.add_argument(
        "--depth", type=int, default=1000, metavar="N", help="candidates a query (default: %(default)s)"
    )


def _command(commands: Any, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=sentence(text),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data", required=True, metavar="OUT", help="the output whose videos table has the frames")
    parser.add_argument(
        "--model", required=True, metavar="RUN", help="a run folder of `hardquery train retriever`, or an export of it"
    )
    parser.add_argument("--device", metavar="NAME", help="such as cuda:1 or cpu (default: cuda where there is one)")
    parser.set_defaults(act=_act)
    return parser


def _act(arguments: argparse.Namespace, _: list[str]) -> int:
    if "://" in arguments.out:
        raise UsageError(f"--out must be a local file, got {arguments.out}")
    with (
        needs_extra("train"),
        one_line(ValueError, OSError),
    ):  # every error of this call is a clear one-line subclass of the two
        (_embed if arguments.command == "embed" else _retrieve)(arguments)
    return 0


def _embed(arguments: argparse.Namespace) -> None:
    from trainer.retriever.encoder import load_encoder

    _write_pack(arguments, load_encoder(arguments.model, arguments.device), arguments.out)
    print(arguments.out)


def _retrieve(arguments: argparse.Namespace) -> None:
    from trainer.retriever.encoder import load_encoder
    from transforms.search.search import SearchOptions, search_many
    from transforms.storage.local_file import written_whole
    from transforms.storage.trec import run_lines

    if arguments.depth < 1:
        raise ValueError(f"--depth must be at least 1, got {arguments.depth}")
    queries = _queries(arguments)
    encoder = load_encoder(arguments.model, arguments.device)
    found: dict[str, Candidates] = {}
    with _pack(arguments, encoder) as pack:
        query_ids = sorted(queries)
        for start in range(0, len(query_ids), _AT_ONCE):
            some = query_ids[start : start + _AT_ONCE]
            asked = [_embedding([encoder.query(queries[query_id])]) for query_id in some]
            results = search_many(pack, asked, arguments.depth, SearchOptions())
            found |= {query_id: result.candidates for query_id, result in zip(some, results, strict=True)}
    with written_whole(arguments.out) as stream:
        for line in run_lines(found, "video-colbert"):
            stream.write(f"{line}\n".encode())
    print(arguments.out)


def _queries(arguments: argparse.Namespace) -> Mapping[str, str]:
    from trainer.data.examples import read_queries
    from trainer.data.shards import DataError, Shards
    from transforms.storage import trec

    if arguments.queries:
        connect_stores(arguments.queries)
        return trec.read_queries(arguments.queries)
    found = {example.query_id: example.query for example in read_queries(Shards(arguments.data), arguments.split)}
    if not found:
        raise DataError(f"{arguments.data} has no queries in the split {arguments.split}; give --queries")
    return found


@contextmanager
def _pack(arguments: argparse.Namespace, encoder: Encoder) -> Iterator[Pack]:
    """The pack that is named, if it is of the same model, or one made for this call."""
    from trainer.retriever.folder import content_hash
    from transforms.search.pack import NotAPack, open_pack

    if arguments.pack:
        pack = open_pack(arguments.pack)
        if pack.space != content_hash(arguments.model):
            raise NotAPack(f"{arguments.pack} is of another model than {arguments.model}: embed the videos again")
        yield pack
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "pack")
        _write_pack(arguments, encoder, path)
        yield open_pack(path)


def _write_pack(arguments: argparse.Namespace, encoder: Encoder, path: str) -> None:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from trainer.data.shards import DataError, Shards
    from trainer.retriever.folder import content_hash
    from trainer.retriever.inputs import clips_of
    from transforms.search.pack import write_pack

    shards = Shards(arguments.data)
    clips = clips_of(shards, encoder.frames)
    if not len(clips):
        raise DataError(f"no video of {arguments.data} has frames; run the recipe with emit.frames")
    console = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as progress:
        video_ids = progress.track(clips, total=len(clips), description="Embedding videos")
        write_pack(path, _embedded(encoder, clips, video_ids), content_hash(arguments.model))
    if missing := sum(map(sum, map(shards.group_sizes, shards.paths("videos")))) - len(clips):
        console.print(f"{missing} videos have no frames, and are left out")


def _embedded(encoder: Encoder, clips: Clips, video_ids: Iterable[str]) -> Iterator[tuple[str, Embedding]]:
    """The vectors of all, by id, as a pack wants them; the videos are read in the order in which they come."""
    import numpy as np

    with tempfile.TemporaryFile() as waiting:
        places = {}
        for video_id in video_ids:
            levels = encoder.video(list(clips[video_id].frames))
            places[video_id] = waiting.tell(), len(levels)
            for level in levels:
                np.save(waiting, level)
        for video_id, (place, count) in sorted(places.items()):
            waiting.seek(place)
            yield video_id, _embedding([np.load(waiting) for _ in range(count)])


def _embedding(levels: list[Any]) -> Embedding:
    import numpy as np

    from transforms.protocols.embed import Embedding

    return Embedding.of(np.concatenate(levels), [len(level) for level in levels])
