"""Reranking: a trained model scores the candidates of a run, video by video, and may be stopped at any moment."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from schemas.fingerprint import fingerprint
from schemas.query import Candidate
from trainer.config.config import TrainConfig, load_config
from trainer.config.errors import TrainingError
from trainer.data.clips import Clips
from trainer.data.shards import Shards
from trainer.model.models import Source, load_for_scoring, load_processor
from trainer.model.prompt import Answers, Prompt, frame_budget
from trainer.model.shared_prefix import SharedPrefix, share_prefix, shared_scores

CONFIG = "config.yaml"

Run = Mapping[str, Sequence[Candidate]]
Scores = dict[str, dict[str, float]]  # by query, then video


class RerankError(TrainingError):
    """A run that cannot be reranked as asked; one line that names the fix."""


@dataclass(frozen=True)
class Reranker:
    """A trained model, ready to score: the prompt and the frame budget are those that it was trained with."""

    model: Any
    prompt: Prompt
    answers: Answers
    clips: Clips
    identity: str

    def scores(self, video_id: str, queries: Sequence[str]) -> list[float]:
        """The scores of one video for several queries, in nats: logit(yes) - logit(no).

        Raises:
            RerankError: a score is not a finite number.
        """
        shared = share_prefix(self.prompt, self.clips[video_id], queries)
        prefix = {name: value.to(self.model.device) for name, value in shared.prefix.items()}
        with torch.inference_mode():
            found: list[float] = shared_scores(self.model, SharedPrefix(prefix, shared.tails), self.answers).tolist()
        if not all(map(math.isfinite, found)):
            raise RerankError(
                f"the model's scores of video {video_id!r} are no numbers: {found}; was its training stable?"
            )
        return found


def load_reranker(folder: Path, data: str, device: str | None = None) -> Reranker:
    """The model of a run folder, or of an exported one, over the videos of an output.

    Raises:
        RerankError: the folder holds no model that this trainer made.
    """
    if not (folder / CONFIG).is_file():
        raise RerankError(f"{folder} holds no {CONFIG}: give a run folder of `hardquery train`, or an exported model")
    config = load_config(str(folder / CONFIG), [f"model={json.dumps(str(folder))}"])
    processor = load_processor(config)
    prompt = Prompt(processor, config.ranking.prompt)
    shards = Shards(data)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Reranker(
        model=load_for_scoring(config).to(device).eval(),
        prompt=prompt,
        answers=prompt.answers(),
        clips=Clips(shards, frame_budget(processor, config.ranking.frames, config.max_pixels)),
        identity=_identity(config, shards),
    )


def _identity(config: TrainConfig, shards: Shards) -> str:
    """What decides a score: the weights, how they are asked, and the frames that they are shown."""
    source = Source.of(config.model, config.revision)
    files = {}
    for path in sorted((source.adapter or Path(source.base)).glob("*.safetensors")):
        with path.open("rb") as weights:
            files[path.name] = hashlib.file_digest(weights, "sha256").hexdigest()
    return fingerprint([files, source.base, config.as_dict(), shards.manifest_sha256])


def rerank(
    reranker: Reranker,
    run: Run,
    queries: Mapping[str, str],
    partial: Path,
    *,
    depth: int = 100,
    at_once: int = 16,
    allowed: int = 0,
    told: Callable[[int], object] = lambda pairs: None,
) -> dict[str, list[Candidate]]:
    """The run with the first ``depth`` candidates of every query ordered by the model; the others follow as they were.

    Candidates are scored by video, ``at_once`` queries in one pass, so that a video's frames go through the model as
    seldom as can be. Every video's scores are written to ``partial`` when it is done: the same call goes on from
    there, and so does one with another depth or another run. At most ``allowed`` videos may lack frames; those keep
    their place behind the scored ones. ``told`` is called with the number of pairs that were just done.

    Raises:
        RerankError: a query has no text, more videos than allowed have no frames, or ``partial`` holds scores of
            another model, other queries or other data.
    """
    if unknown := sorted(query_id for query_id in run if query_id not in queries):
        raise RerankError(f"{len(unknown)} queries of the run have no text, such as {unknown[0]!r}")
    wanted: dict[str, list[str]] = {}
    for query_id in sorted(run):
        for candidate in run[query_id][:depth]:
            wanted.setdefault(candidate.video_id, []).append(query_id)
    missing = sorted(video_id for video_id in wanted if video_id not in reranker.clips)
    if len(missing) > allowed:
        raise RerankError(
            f"{len(missing)} videos of the run have no frames, such as {missing[0]!r}; allow some with --missing-videos"
        )
    scores: Scores = {query_id: {} for query_id in run}
    header = {"model": reranker.identity, "queries": fingerprint(dict(queries))}
    done = _resume(partial, header, wanted, scores)
    with partial.open("a", encoding="utf-8") as lines:
        for video_id in reranker.clips.in_order(wanted.keys() - set(missing)):
            asked = [query_id for query_id in wanted[video_id] if (query_id, video_id) not in done]
            for start in range(0, len(asked), at_once):
                some = asked[start : start + at_once]
                found = dict(zip(some, reranker.scores(video_id, [queries[q] for q in some]), strict=True))
                lines.write(json.dumps({"video_id": video_id, "scores": found}) + "\n")
                lines.flush()
                for query_id, score in found.items():
                    scores[query_id][video_id] = score
            told(len(wanted[video_id]))
    return {query_id: _reordered(run[query_id], scores[query_id]) for query_id in run}


def _resume(
    partial: Path, header: Mapping[str, str], wanted: Mapping[str, Sequence[str]], scores: Scores
) -> set[tuple[str, str]]:
    """Read what an earlier call has scored, into ``scores``; a last line that a kill cut short is dropped.

    The header names all that decides a score. Which pairs are scored is decided by the run and the depth, so that
    scores of a call with others serve this one: those that it wants, by video the queries, and no more.
    """
    content = partial.read_bytes() if partial.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        partial.write_text(json.dumps(header) + "\n", "utf-8")
        return set()
    first, *records = map(json.loads, whole.splitlines())
    if first != header:
        raise RerankError(
            f"{partial} holds scores of another model, other queries or other data; remove it, or name another --out"
        )
    os.truncate(partial, len(whole))
    done = set()
    for record in records:
        for query_id, score in record["scores"].items():
            if query_id in wanted.get(record["video_id"], ()):
                scores[query_id][record["video_id"]] = score
                done.add((query_id, record["video_id"]))
    return done


def _reordered(candidates: Sequence[Candidate], scores: Mapping[str, float]) -> list[Candidate]:
    """Scored candidates, best first, ties in their old order; then the others, each one nat below the one before."""
    scored = sorted((c for c in candidates if c.video_id in scores), key=lambda c: (-scores[c.video_id], c.rank))
    others = [c for c in candidates if c.video_id not in scores]
    lowest = scores[scored[-1].video_id] if scored else 0.0
    ordered: Iterable[tuple[str, float]] = [
        *((c.video_id, scores[c.video_id]) for c in scored),
        *((c.video_id, lowest - place) for place, c in enumerate(others, start=1)),
    ]
    return [Candidate(video_id, rank, score) for rank, (video_id, score) in enumerate(ordered, start=1)]
