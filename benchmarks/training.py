"""What makes training and reranking cheap: frames in shards, logits where they are needed, a video's prefix once.

Run with ``python -m benchmarks.training`` after `make demo`. Each row is a ratio of CPU time, or of peak memory, in one
run; models have random weights. Linux only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUERIES = (2, 4, 8)
_VOCABULARY = 151_936  # of Qwen3
_LENGTH, _PAIRS = 1450, 3
_TARGETS = 150  # tokens of a caption
_CLEAR = Path("/proc/self/clear_refs")


def cpu_s(work: Callable[[], object], least_s: float = 1.0) -> float:
    """CPU seconds of one call: the mean of as many as take ``least_s``, after one that is not counted."""
    work()
    start, calls = time.process_time(), 0
    while time.process_time() - start < least_s:
        work()
        calls += 1
    return (time.process_time() - start) / calls


def loading(output: Path, videos: Path) -> list[str]:
    """Videos a CPU second from the shards against decoding the files that they came from."""
    from trainer.data.clips import Clips, FrameBudget
    from trainer.data.shards import Shards
    from transforms.engines.pyav import PyAvSampler
    from transforms.protocols.frames import FramePolicy

    clips = Clips(Shards(str(output)), FrameBudget(frames=32, max_pixels=128 * 32 * 32, multiple=32))
    paths = [str(path) for path in sorted(videos.rglob("*")) if path.suffix in (".mp4", ".webm", ".mov")]
    ids = list(clips.in_order(_Everything()))
    sampler, policy = PyAvSampler(), FramePolicy(sample_fps=2.0, max_frames=32, max_side=448)
    frames = sum(len(clips[video_id].frames) for video_id in ids)
    decoded = sum(len(sampler.sample(path, policy).frames) for path in paths)
    from_shards = cpu_s(lambda: [clips[video_id] for video_id in ids]) / frames
    from_files = cpu_s(lambda: [sampler.sample(path, policy) for path in paths]) / decoded
    return [
        f"| frames a CPU s, {len(ids)} videos | {1 / from_shards:.0f} from shards | {1 / from_files:.0f} decoding the "
        f"files with our sampler | {from_files / from_shards:.1f} times |"
    ]


class _Everything:
    def __contains__(self, _: object) -> bool:
        return True


def targeted_logits() -> list[str]:
    """Peak memory and CPU time of a step's loss with logits where they are needed against all of them."""
    rows = []
    for task in ("caption", "ranking"):
        some, whole = (_in_child(task, full) for full in (False, True))
        rows.append(
            f"| {task} step, {_PAIRS} x {_LENGTH} tokens, vocabulary {_VOCABULARY:,} | {some['mb'] / 1000:.2f} GB, "
            f"{some['cpu_s']:.1f} CPU s | {whole['mb'] / 1000:.2f} GB, {whole['cpu_s']:.1f} CPU s with all logits | "
            f"{whole['mb'] / some['mb']:.1f} times the memory, {whole['cpu_s'] / some['cpu_s']:.1f} times the time |"
        )
    return rows


def _in_child(task: str, full: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.training", "--step", task, *(["--full"] if full else [])]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def step(task: str, full: bool) -> dict[str, float]:
    """One forward and backward pass of a language model with the vocabulary of Qwen3, in this process."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from tests.support.peak_memory import peak_mb
    from trainer.model.prompt import IGNORED, Answers
    from trainer.model.score import caption_loss, pair_scores

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "head_dim": 64}
    config = Qwen3Config(vocab_size=_VOCABULARY, num_attention_heads=8, num_key_value_heads=4, **sizes)
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.get_input_embeddings().weight.requires_grad_(False)
    ids = torch.randint(0, 1000, (_PAIRS, _LENGTH))
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = ids.clone()
    labels[:, :-_TARGETS] = IGNORED
    _CLEAR.write_text("5")
    before, start = peak_mb(), time.process_time()
    if task == "ranking":
        scores = pair_scores(model, inputs, Answers(1, 2)) if not full else _all_logits(model, inputs)[:, -1, 1]
        scores.sum().backward()
    elif full:
        logits = _all_logits(model, inputs)[:, :-1]
        torch.nn.functional.cross_entropy(
            logits.reshape(-1, _VOCABULARY), labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="sum"
        ).backward()
    else:
        caption_loss(model, {**inputs, "labels": labels}).backward()
    return {"mb": peak_mb() - before, "cpu_s": time.process_time() - start}


def _all_logits(model: Any, inputs: dict[str, Any]) -> Any:
    return model(**inputs).logits.float()


def shared_prefix(folder: Path) -> list[str]:
    """One pass a video for several queries against one sequence each: the speed-up, and how far scores differ."""
    import numpy as np
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from tests.support import tiny_vlm
    from trainer.config.config import load_config
    from trainer.data.clips import Clip
    from trainer.model.prompt import Prompt
    from trainer.model.score import pair_scores
    from trainer.model.shared_prefix import share_prefix, shared_scores

    torch.set_num_threads(1)
    ranking = load_config("paper").ranking.prompt
    texts = [f"who crosses the finish line in stage {number}" for number in range(max(QUERIES))]
    path = tiny_vlm.build(folder / "model", texts=[*texts, ranking.system, ranking.user] * 20, hidden=256, layers=6)
    processor, model = AutoProcessor.from_pretrained(path), AutoModelForImageTextToText.from_pretrained(path).eval()
    prompt = Prompt(processor, ranking)
    answers = prompt.answers()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 96, 3), dtype=np.uint8)
    clip = Clip(pixels, tuple(number / 2 for number in range(len(pixels))))
    rows = []
    for n in QUERIES:
        together, apart = share_prefix(prompt, clip, texts[:n]), prompt.for_scoring([clip] * n, texts[:n])
        with torch.inference_mode():
            difference = (shared_scores(model, together, answers) - pair_scores(model, apart, answers)).abs().max()
            once = cpu_s(lambda together=together: shared_scores(model, together, answers))  # type: ignore[misc]
            each = cpu_s(lambda apart=apart: pair_scores(model, apart, answers))  # type: ignore[misc]
        length, tail = together.prefix["input_ids"].shape[1], max(map(len, together.tails))
        rows.append(
            f"| {n} queries a video, {length} tokens shared and {tail} own | {once * 1e3:.0f} CPU ms | "
            f"{each * 1e3:.0f} CPU ms in separate sequences | {each / once:.1f} times, scores within {difference:.0e} |"
        )
        if difference > 1e-5:
            sys.exit(f"scores differ by {difference}")
    return rows


def main() -> int:
    """Print the table."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if "--step" in sys.argv:
        print(json.dumps(step(sys.argv[sys.argv.index("--step") + 1], "--full" in sys.argv)))
        return 0
    output, videos = Path("out/demo"), Path("samples/videos")
    if not (output / "manifest.json").is_file():
        print("needs out/demo: run `make demo` first", file=sys.stderr)
        return 2
    print("| | measured | against | |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for rows in (loading(output, videos), targeted_logits(), shared_prefix(Path(folder))):
            print(*rows, sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
