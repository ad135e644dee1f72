"""What replies of llama.cpp's own server say that they used is what the server counted."""

import pytest

from tests.support.llama_server import serving
from transforms.engines.openai.chat import ChatClient, ChatOptions

EVIDENCE = "The city opened a new tram line between the harbour and Linden on a rainy morning. " * 20
QUESTIONS = ("who rode first", "which line was it", "why did it rain")


@pytest.fixture(scope="module")
def counted(random_llm):
    """The usage of some replies about one evidence, and by how much the server's counters grew meanwhile."""
    with serving(random_llm.gguf) as server:
        client = ChatClient(ChatOptions(model="tiny", base_url=server.base_url, max_tokens=8))
        before = server.metrics()
        used = [client.complete([{"role": "user", "content": f"{EVIDENCE}\n{ask}?"}]).usage for ask in QUESTIONS]
        after = server.metrics()
    return used, {name: after[name] - before[name] for name in after}


def test_tokens_are_the_servers_own(counted):
    used, grew = counted
    assert sum(usage.output_tokens for usage in used) == grew["tokens_predicted_total"] > 0
    assert sum(usage.input_tokens - usage.cached_tokens for usage in used) == grew["prompt_tokens_total"]


def test_every_reply_tells_what_was_cached(counted):
    used, _ = counted
    assert [usage.requests for usage in used] == [1, 1, 1]
    assert used[0].cached_tokens == 0
    assert all(usage.cached_tokens > 0.9 * usage.input_tokens for usage in used[1:])
