"""Small queries, videos and judgements for the tests of mining and curation."""

from schemas.query import Candidates, Judgement, Label, Margin, Query
from schemas.video import EngineStamp, Evidence, MediaFacts, Video

ENGINE = EngineStamp("rules", "1", "", "0")


def query(query_id: str = "q", video_id: str = "pos", text: str = "which flood closed the bridge") -> Query:
    return Query(query_id, video_id, text, "teacher", "specific", "caption", "because", ("caption",), ENGINE)


def human_query(
    query_id: str = "h", video_id: str = "pos", text: str = "bridge flood", also_relevant: tuple[str, ...] = ()
) -> Query:
    return Query(query_id, video_id, text, "human", also_relevant=also_relevant)


def candidates(*scored: tuple[str, float]) -> Candidates:
    return Candidates((video_id for video_id, _ in scored), (score for _, score in scored))


def video(video_id: str, caption: str = "", frames: int = 1) -> Video:
    pack = f"pack-{video_id}" if frames else None
    return Video(video_id, f"{video_id}.mp4", MediaFacts("0" * 64, 1), Evidence(caption), pack, frames)


def judgement(
    video_id: str, label: Label, delta: float | None = None, rank: int | None = 1, is_positive: bool = False
) -> Judgement:
    return Judgement(
        query_id="q",
        video_id=video_id,
        is_positive=is_positive,
        label=label,
        rationale=f"about {video_id}",
        margin=None if delta is None else Margin(delta, delta - 0.5, delta + 0.5),
        confidence_source="label_only" if delta is None else "logprobs",
        teacher=ENGINE,
        reply=label,
        prompt_sha256="",
        rank=rank,
        score=None if rank is None else 10.0 / rank,
    )


def positive(label: Label = "yes", delta: float | None = 4.0, rank: int | None = 2) -> Judgement:
    return judgement("pos", label, delta, rank, is_positive=True)
