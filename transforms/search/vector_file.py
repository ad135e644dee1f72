"""Vector files: the vectors of one document in an .npz, the same bytes for the same vectors.

A single vector is kept as float32, ``vector`` [dims]. Several are kept as int8 ``codes`` [n, dims], a quarter of the
space; they are directions: each vector is its codes brought to length 1. ``levels`` are the numbers of rows of each.
"""

from __future__ import annotations

import zipfile

import numpy as np

from transforms.protocols.embed import Embedding
from transforms.search.tokens import decoded, encoded
from transforms.storage.local_file import written_whole


class NotVectors(ValueError):
    """A file that is no vector file, or no longer a whole one; one line that names it."""


def write_vectors(path: str, embedding: Embedding) -> None:
    """Write a document's vectors to a file of this machine."""
    kept = {"vector": embedding.vectors[0]} if is_single(embedding) else {"codes": encoded(embedding.vectors)}
    with written_whole(path) as stream:
        np.savez(stream, levels=np.array(embedding.levels, np.int32), **kept)


def read_vectors(path: str) -> Embedding:
    """What was written, several vectors as near as int8 codes are (cosines to about 0.001).

    Raises:
        NotVectors: it is none of these files, or damaged.
        FileNotFoundError: there is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            levels = tuple(map(int, file["levels"]))
            vectors = file["vector"][None] if "vector" in file else decoded(file["codes"])
        return Embedding(vectors, levels)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise NotVectors(f"{path} is no vector file: {type(error).__name__}: {error}") from error


def is_single(embedding: Embedding) -> bool:
    """Whether it is one vector."""
    return len(embedding.vectors) == 1
