"""Text filters: which written queries are fit to search with, and the reason why the others are not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

import apache_beam as beam

from prompts.evidence import EvidenceBudgets, render_evidence
from prompts.reply import excerpt
from schemas.check import require, require_fraction, require_one_of
from schemas.configuration.section import Section
from schemas.losses import Loss
from schemas.query import Query
from schemas.video import MODALITIES, Evidence, Video
from transforms.ledger import LOSSES, lost
from transforms.synthesize.mentions import mention
from transforms.synthesize.write_queries import shown_modalities
from transforms.text.language import SCRIPTS, foreign
from transforms.text.words import longest_common_run, words, words_and_characters

Found = tuple[str, str] | None  # (reason, detail)


class TextFilters(Section, frozen=True):
    """Thresholds of the text filters; lengths and runs are counted in words as ``transforms.text.words`` splits them.

    A long request has lengths of its own; its parts are queries like others.
    A run of up to ``max_copied_words`` words may be shared with the evidence, and the share ``max_overlap`` of the
    content words; base queries, which are names, may share all. ``min_quoted`` is the share of each cited piece of
    evidence that must stand in the evidence shown, 0 for no such rule. ``languages`` are ISO 639 codes;
    at ``min_language_probability`` 4 of 100 English queries, picked for their foreign names, were dropped, and 74 of 79
    in 25 other languages (tests/synthesize/test_language.py holds a part).
    ``near_duplicate_jaccard`` is for DropNearDuplicates.
    """

    min_words: int = 4
    max_words: int = 60
    request_min_words: int = 40
    request_max_words: int = 150
    max_copied_words: int = 8
    max_overlap: float = 1.0
    min_quoted: float = 0.9
    near_duplicate_jaccard: float = 0.8
    languages: tuple[str, ...] = ("en",)
    min_language_probability: float = 0.006

    def __post_init__(self) -> None:
        require(1 <= self.min_words <= self.max_words, "1 <= min_words <= max_words", (self.min_words, self.max_words))
        least, most = self.request_min_words, self.request_max_words
        require(1 <= least <= most, "1 <= request_min_words <= request_max_words", (least, most))
        require(self.max_copied_words >= 0, "max_copied_words must not be negative", self.max_copied_words)
        require_fraction("max_overlap", self.max_overlap)
        require_fraction("min_quoted", self.min_quoted)
        require(0 < self.near_duplicate_jaccard <= 1, "near_duplicate_jaccard in (0, 1]", self.near_duplicate_jaccard)
        require(bool(self.languages), "at least one language", self.languages)
        for language in self.languages:
            require_one_of("language", language, SCRIPTS)
        require_fraction("min_language_probability", self.min_language_probability)


# Characters that make up a word of other languages, where words are not parted by spaces, or seldom.
_OF_A_WORD: Mapping[str, float] = {"zh": 1.5, "ko": 2.5}


def length(text: str, min_words: int, max_words: int, language: str | None = None) -> Found:
    """Drop as "too short" or "too long" what has fewer than ``min_words`` or more than ``max_words`` words.

    Of a query that was asked for in Chinese or Korean, characters are counted: 1.5 and 2.5 are a word.
    """
    characters = _OF_A_WORD.get(language or "")
    counted = len(words_and_characters(text) if characters else words(text))
    count, unit = (counted / characters, "characters") if characters else (counted, "words")
    if count < min_words:
        return "too short", f"{counted} {unit}, at least {min_words * (characters or 1):g}"
    if count > max_words:
        return "too long", f"{counted} {unit}, at most {max_words * (characters or 1):g}"
    return None


def empty_rationale(rationale: str) -> Found:
    """Drop as "empty rationale" what gives no word of reasoning."""
    return None if words(rationale) else ("empty rationale", repr(rationale))


def mentions_video(text: str, language: str | None = None) -> Found:
    """Drop as "mentions video" what speaks of the video or its parts; see ``mention``."""
    found = mention(text, language)
    return ("mentions video", found) if found else None


def wrong_language(text: str, languages: tuple[str, ...], min_probability: float) -> Found:
    """Drop as "wrong language" what is beyond doubt in none of ``languages``; see ``foreign``."""
    detail = foreign(text, languages, min_probability)
    return ("wrong language", detail) if detail else None


def copies_evidence(text: str, evidence: Evidence, max_copied_words: int, language: str | None = None) -> Found:
    """Drop as "copies evidence" what shares more than ``max_copied_words`` words in a row with one modality's text.

    Of a query that was asked for in Chinese or Korean, characters are counted, as for its length.
    """
    characters = _OF_A_WORD.get(language or "")
    split, unit = (words_and_characters, "characters") if characters else (words, "words")
    most = int(max_copied_words * (characters or 1))
    query = split(text)
    if len(query) <= most:
        return None
    for modality in MODALITIES:
        run = longest_common_run(query, split(evidence.text(modality)))
        if run > most:
            return "copies evidence", f"{run} {unit} in a row from {modality}, at most {most}"
    return None


def repeats_evidence(query: Query, max_overlap: float) -> Found:
    """Drop as "repeats evidence" what shares more than ``max_overlap`` of its content words with the evidence shown."""
    if query.difficulty is None or query.query_type == "base":
        return None
    overlap = 1.0 - query.difficulty.lexical_gap
    if overlap <= max_overlap:
        return None
    return "repeats evidence", f"{overlap:.2f} of its content words, at most {max_overlap:g}"


_LABEL = re.compile(rf"\s*(?:{'|'.join(MODALITIES)})\s*:", re.IGNORECASE)  # as the prompt names what it shows
_OMISSION = re.compile(r"\.{3}|…|\[cut\]")


def not_grounded(query: Query, evidence: Evidence, min_quoted: float) -> Found:
    """Drop as "not grounded" what cites nothing, or what the evidence that its writer was shown does not hold.

    Letters and digits alone are compared, in any case: teachers mend punctuation. ``min_quoted`` is the least share of
    a quotation that must be found in one place, in order. Pieces around an omission mark are looked for one by one.
    """
    if min_quoted == 0 or query.variant is None:
        return None
    budgets = EvidenceBudgets.that_cut(query.evidence_cut)
    shown = _letters(render_evidence(evidence, shown_modalities(evidence, query.variant), query.video_id, budgets))
    pieces = [piece.strip() for cited in query.cited for piece in _OMISSION.split(_LABEL.sub("", cited, count=1))]
    quotations = {piece: _letters(piece) for piece in pieces}
    if not any(quotations.values()):
        return "not grounded", "it cites no evidence"
    for piece, quotation in quotations.items():
        found = _share_found(quotation, shown)
        if found < min_quoted:
            return "not grounded", f"{found:.2f} of {excerpt(piece)!r} is in the evidence, at least {min_quoted:g}"
    return None


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def _share_found(quotation: str, text: str) -> float:
    """The share of the quotation that stands in ``text`` in order, around the longest run that both hold."""
    if quotation in text:
        return 1.0
    longest = SequenceMatcher(None, text, quotation, autojunk=False).find_longest_match()
    start, slack = longest.a - longest.b, len(quotation) // 10 + 1
    around = text[max(0, start - slack) : start + len(quotation) + slack]
    blocks = SequenceMatcher(None, around, quotation, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(quotation)


def reject_reason(query: Query, evidence: Evidence, filters: TextFilters) -> Found:
    """The (reason, detail) of the first filter that drops ``query``, cheapest first, or None where it is kept.

    ``evidence`` is the whole evidence of the query's own video, whichever modalities the query was written from. One
    that was asked for in a language must be in that one, whatever the filters' ``languages`` are.
    """
    is_request = query.variant == "request" and query.part_of is None
    least = filters.request_min_words if is_request else filters.min_words
    most = filters.request_max_words if is_request else filters.max_words
    languages = (query.language,) if query.language else filters.languages
    return (
        length(query.text, least, most, query.language)
        or empty_rationale(query.rationale)
        or mentions_video(query.text, query.language)
        or wrong_language(query.text, languages, filters.min_language_probability)
        or copies_evidence(query.text, evidence, filters.max_copied_words, query.language)
        or repeats_evidence(query, filters.max_overlap)
        or not_grounded(query, evidence, filters.min_quoted)
    )


@dataclass
class FilterQueries(beam.PTransform):
    """(Query, Video) -> Query; those that a filter drops go to the tag "losses"."""

    filters: TextFilters

    def expand(self, pairs: beam.PCollection[tuple[Query, Video]]) -> beam.pvalue.DoOutputsTuple:
        return pairs | "Filter" >> beam.FlatMap(_filter, filters=self.filters).with_outputs(LOSSES, main="queries")


def _filter(pair: tuple[Query, Video], filters: TextFilters) -> Iterator[Query | beam.pvalue.TaggedOutput]:
    query, video = pair
    found = reject_reason(query, video.evidence, filters)
    if found is None:
        yield query
    else:
        reason, detail = found
        yield lost(Loss("rejected", "synthesize", "filter", reason, detail, query.video_id, query.query_id))
