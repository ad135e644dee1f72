"""Requests to a teacher in this process, and its answers computed by hand."""

from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from prompts.judge import judge_prompt
from prompts.template import Prompt
from schemas.video import Evidence
from tests.support.talking_llm import VERDICT
from transforms.engines.registry import find_engine
from transforms.protocols.teacher import TeacherRequest

WORDS = "the tram leaves its depot when everyone rides free until Sunday and line five is shown at noon".split()


def engine_of(folder, **options):
    given = {"batch_size": 4, "max_new_tokens": 24, "device": "cpu", **options}
    return find_engine("teacher", {"engine": "transformers", "model": str(folder), **given})


def evidence_of(number):
    rng = random.Random(number)
    return Evidence(caption=" ".join(rng.choices(WORDS, k=rng.choice((3, 20, 90)))))


def request_of(number=0, **changes):
    evidence, query = evidence_of(number), WORDS[number % len(WORDS)]
    prompt = judge_prompt(evidence, ("caption",), f"v{number}", query)
    request = TeacherRequest("judge", prompt, evidence, query, seed=number, confidence="logprobs")
    return replace(request, **changes)


def writing_request(number=0, **changes):
    evidence = evidence_of(number)
    prompt = Prompt("You write search queries.", evidence.caption)
    return replace(TeacherRequest("write_queries", prompt, evidence, count=1, seed=number), **changes)


def ask_all(teacher, requests):
    """All at once, so that they share batches."""
    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(teacher.reply, requests))


def probabilities_after(folder, prompt):
    """The distribution of the next token, computed by hand: a list over the whole vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0, -1].double().tolist()
    top = max(logits)
    exponentials = [math.exp(logit - top) for logit in logits]
    return [exponential / math.fsum(exponentials) for exponential in exponentials]


def prompt_of(folder, request, says=VERDICT):
    """The tokens of a request's prompt and of what the model says to it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [
        {"role": "system", "content": request.prompt.system},
        {"role": "user", "content": request.prompt.user},
    ]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return [*prompt, *tokenizer.convert_tokens_to_ids(list(says))], tokenizer
