"""A Whisper checkpoint that knows three made-up sounds by heart: it runs the real code, and is no speech model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples

WIDTH = 32
STEPS = 50
_POSITIONS = 448  # tokens; faster-whisper takes it that a model writes so many


@dataclass(frozen=True)
class Memory:
    """A sound, and what the checkpoint is made to say of it: language, then (start_s, end_s, text) pieces."""

    sound: Samples
    language: str
    pieces: tuple[tuple[float, float, str], ...]


def chirp(from_hz: float, to_hz: float, seconds: float) -> Samples:
    """A tone that glides from one pitch to another."""
    time = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * (from_hz * time + (to_hz - from_hz) * time**2 / (2 * seconds))
    return (12_000 * np.sin(phase)).astype(np.int16)


RISING = Memory(chirp(200, 2000, 2.0), "en", ((0.0, 2.0, "The rocket leaves the ground."),))
FALLING = Memory(
    chirp(6000, 500, 3.0),
    "de",
    (
        (0.0, 1.2, "Der Ball rollt."),
        (1.6, 2.8, "Die Katze schläft."),
    ),
)
STUCK = Memory(chirp(900, 900, 4.0), "en", ((0.0, 4.0, "no " * 14),))
MEMORIES = (RISING, FALLING, STUCK)
SILENCE = np.zeros(SAMPLE_RATE_HZ, np.int16)


def write_memorised_checkpoint(path: Path) -> None:
    """Over-fit a small random Whisper on MEMORIES and on silence, and save it as openai-whisper's own files are."""
    import torch
    import whisper
    from whisper.model import ModelDimensions, Whisper
    from whisper.tokenizer import get_tokenizer

    torch.manual_seed(0)
    tokenizer = get_tokenizer(True, num_languages=99)
    language_token = dict(zip(tokenizer.all_language_codes, tokenizer.all_language_tokens, strict=True))

    def reply(memory: Memory) -> list[int]:
        tokens = [tokenizer.sot, language_token[memory.language], tokenizer.transcribe]
        for start_s, end_s, text in memory.pieces:
            begin = tokenizer.timestamp_begin
            tokens += [begin + round(start_s / 0.02), *tokenizer.encode(" " + text), begin + round(end_s / 0.02)]
        return [*tokens, tokenizer.eot]

    sounds = [*(memory.sound for memory in MEMORIES), SILENCE]
    replies = [*map(reply, MEMORIES), [tokenizer.sot, tokenizer.no_speech]]
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in replies], batch_first=True, padding_value=-100)
    inputs = tokens[:, :-1].clamp(min=0)
    targets = tokens[:, 1:].clone()
    targets[:-1, 1] = -100  # the task is always given, never predicted

    dims = ModelDimensions(80, 1500, WIDTH, 2, 1, 51865, 96, WIDTH, 2, 1)
    model = Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding, std=0.05)  # Whisper leaves it as it finds the memory
    for convolution in (model.encoder.conv1, model.encoder.conv2):
        torch.nn.init.normal_(convolution.weight, std=0.3)  # loud enough to be heard beside the positions
    mels = [whisper.log_mel_spectrogram(whisper.pad_or_trim(sound.astype(np.float32) / 32768)) for sound in sounds]
    with torch.no_grad():
        heard = model.encoder(torch.stack(mels))  # random, yet it tells the sounds apart: only the decoder is trained

    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=2e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=STEPS)
    for _ in range(STEPS):
        logits = model.decoder(inputs, heard)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    torch.save({"dims": vars(dims), "model_state_dict": model.half().state_dict()}, path)


def write_for_ctranslate2(checkpoint: Path, folder: Path) -> None:
    """The same weights and tokenizer as faster-whisper reads them."""
    import torch
    from ctranslate2.specs.model_spec import index_spec
    from ctranslate2.specs.whisper_spec import WhisperSpec
    from whisper.tokenizer import get_tokenizer

    from tests.support.whisper_weights import to_ctranslate2

    saved = torch.load(checkpoint)
    dims = saved["dims"]
    weights = {name: weight.numpy() for name, weight in saved["model_state_dict"].items()}
    positions = weights["decoder.positional_embedding"]
    weights["decoder.positional_embedding"] = np.resize(positions, (_POSITIONS, positions.shape[1]))

    spec = WhisperSpec(dims["n_audio_layer"], dims["n_audio_head"], dims["n_text_layer"], dims["n_text_head"])
    variables = to_ctranslate2(weights)
    variables["decoder/projection/weight"] = variables["decoder/embeddings/weight"]
    for name, weight in variables.items():
        scope, _, attribute = name.rpartition("/")
        setattr(index_spec(spec, scope), attribute, weight)
    tokenizer = get_tokenizer(True, num_languages=99)
    spec.config.lang_ids = list(tokenizer.all_language_tokens)
    spec.config.suppress_ids = [*tokenizer.non_speech_tokens, tokenizer.transcribe, tokenizer.translate, tokenizer.sot]
    spec.config.suppress_ids_begin = [*tokenizer.encode(" "), tokenizer.eot]
    spec.config.alignment_heads = [(0, 0)]

    folder.mkdir()
    fast = _fast_tokenizer(tokenizer)
    fast.save(str(folder / "tokenizer.json"))
    spec.register_vocabulary([fast.id_to_token(number) for number in range(fast.get_vocab_size())])
    spec.validate()
    spec.optimize()
    spec.save(str(folder))


def _fast_tokenizer(tokenizer: Any) -> Any:
    """openai-whisper's tokenizer in the form of the library ``tokenizers``."""
    import whisper.tokenizer
    from transformers.convert_slow_tokenizer import TikTokenConverter

    ranks = Path(whisper.tokenizer.__file__).parent / "assets" / "multilingual.tiktoken"
    special = sorted(tokenizer.special_tokens, key=tokenizer.special_tokens.__getitem__)
    return TikTokenConverter(str(ranks), extra_special_tokens=special).converted()
