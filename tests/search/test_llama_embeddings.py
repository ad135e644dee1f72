"""The embedder against a real ``/v1/embeddings``: llama.cpp's, of a tiny model whose vectors transformers knows too."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.llama_server import LlamaServer, serving
from transforms.engines.openai.chat import Client
from transforms.engines.openai.embeddings import OpenAiEmbeddings, ServedEmbedder
from transforms.protocols.engine import EngineError, loaded
from transforms.protocols.teacher import ContextOverflow

TEXTS = ("the tram leaves the harbour", "a river floods the old town at night", "yes")


@pytest.fixture(scope="module")
def server(random_llm) -> Iterator[LlamaServer]:
    with serving(random_llm.gguf, task="embed") as server:
        yield server


def engine_of(server: LlamaServer, **options) -> OpenAiEmbeddings:
    return OpenAiEmbeddings(model="tiny", base_url=server.base_url, attempts=1, **options)


def test_vectors_are_those_that_transformers_computes(server, random_llm):
    import torch

    engine = engine_of(server)
    engine.check()
    embedder = loaded(engine)
    for text in TEXTS:
        with torch.inference_mode():
            ids = torch.tensor([random_llm.tokenizer.encode(text)])
            mean = random_llm.model.model(ids).last_hidden_state[0].double().mean(dim=0).numpy()
        found = embedder.embed_query(text)
        assert float(found.vectors[0] @ (mean / np.linalg.norm(mean))) > 0.9999
        assert found.usage.input_tokens == ids.shape[1]
        assert found.usage.output_tokens == 0


def test_a_server_that_ignores_dimensions_is_found_out(server):
    with pytest.raises(EngineError, match=r"64 dimensions where 16 were asked for.* set truncate_dim: 16 instead"):
        engine_of(server, dimensions=16).check()
    engine_of(server, truncate_dim=16).check()


def test_a_server_that_reads_no_chats_is_found_out_where_frames_are_to_be_read(server):
    with pytest.raises(EngineError, match="does not embed as it is asked to: HTTP 400"):
        engine_of(server, reads="frames").check()


def test_a_text_above_its_context_is_refused_and_cut_where_the_recipe_says_so(server):
    long = "the tram leaves the harbour " * 2000
    engine = engine_of(server, max_chars=200)
    embedder = ServedEmbedder(engine, Client(engine))
    with pytest.raises(ContextOverflow, match="too large to process"):
        embedder.embed_query(long)
    assert embedder.embed_text(long).vectors.tobytes() == embedder.embed_text(long[:200]).vectors.tobytes()
