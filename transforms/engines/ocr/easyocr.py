"""OCR with easyocr: detection frame by frame, recognition of the text crops of all frames together."""

from __future__ import annotations

import importlib.util
import runpy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from schemas.configuration.section import did_you_mean
from schemas.video import EngineStamp
from transforms.engines.ocr.text_boxes import reading_order, upright_box
from transforms.protocols.engine import EngineError, stamp_of
from transforms.protocols.frames import Image
from transforms.protocols.screen_text import TextBox

_HEIGHT = 64  # pixels: what every recognition model of easyocr takes
_GET_WEIGHTS = "set 'download: true', or put the weights into 'model_dir'"
# Which recognition model reads what, in the order in which ``easyocr.Reader`` asks; a test holds the two together.
_FAMILIES = ("bengali", "arabic", "devanagari", "cyrillic", "latin")
_RECOGNISERS = (
    ("gen2", "english_g2", "en"),
    ("gen1", "thai_g1", "th"),
    ("gen1", "zh_tra_g1", "ch_tra"),
    ("gen2", "zh_sim_g2", "ch_sim"),
    ("gen2", "japanese_g2", "ja"),
    ("gen2", "korean_g2", "ko"),
    ("gen1", "tamil_g1", "ta"),
    ("gen2", "telugu_g2", "te"),
    ("gen2", "kannada_g2", "kn"),
    ("gen1", "bengali_g1", "bengali"),
    ("gen1", "arabic_g1", "arabic"),
    ("gen1", "devanagari_g1", "devanagari"),
    ("gen2", "cyrillic_g2", "cyrillic"),
    ("gen2", "latin_g2", "latin"),
)


@dataclass(frozen=True)
class EasyOcr:
    """Options of easyocr.

    ``languages`` are its codes; one recognition model must cover them all. ``model_dir`` holds the weights; None is
    easyocr's own folder. Missing weights are an error unless ``download`` allows the library to fetch them.
    """

    languages: tuple[str, ...] = ("en",)
    model_dir: str | None = None
    download: bool = False
    min_confidence: float = 0.3

    requires: ClassVar[tuple[str, ...]] = ("easyocr",)
    extra: ClassVar[str] = "easyocr"

    def __post_init__(self) -> None:
        if not self.languages:
            raise ValueError("languages must name at least one language")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(f"min_confidence must lie in [0, 1], got {self.min_confidence}")

    def check(self) -> None:
        """Languages and weights, by the library's own lists; torch is not imported.

        Raises:
            EngineError: an unknown language, languages that need different models, or weights that are not there.
        """
        config = _library_config()
        known = {*config["all_lang_list"]}
        for language in self.languages:
            if language not in known:
                hint = did_you_mean(language, sorted(known))
                raise EngineError(f"ocr engine 'easyocr': language {language!r} is not known{hint}")
        folder = Path(self.model_dir or f"{config['MODULE_PATH']}/model")
        needed = [config["detection_models"]["craft"], _recognition_model(self.languages, config)]
        missing = [path for path in (folder / model["filename"] for model in needed) if not path.is_file()]
        if missing and not self.download:
            raise EngineError(f"ocr engine 'easyocr': no weights at {', '.join(map(str, missing))}; {_GET_WEIGHTS}")

    def load(self) -> EasyOcrReader:
        """Load detector and recogniser on the GPU where there is one.

        Raises:
            EngineError: the weights are missing or not those of this easyocr release, or no model covers the languages.
        """
        import easyocr

        try:
            reader = easyocr.Reader(
                list(self.languages),
                model_storage_directory=self.model_dir,
                user_network_directory=self.model_dir,
                download_enabled=self.download,
                verbose=False,
                quantize=False,  # its scale is that of the whole batch: a line would read otherwise in other company
            )
        except FileNotFoundError as error:
            raise EngineError(f"ocr engine 'easyocr': {error}; {_GET_WEIGHTS}") from error
        except ValueError as error:
            raise EngineError(f"ocr engine 'easyocr': {' '.join(map(str, error.args))}") from error
        return EasyOcrReader(reader, self.min_confidence)

    def stamp(self) -> EngineStamp:
        """Name, version, model and options; where the weights lie does not count.

        An easyocr release refuses weights whose MD5 is not its own, so its version and the languages name them.
        """
        what_counts = replace(self, model_dir=None, download=False)
        return stamp_of(what_counts, "easyocr", "easyocr", f"craft + {','.join(self.languages)}")


def _library_config() -> dict[str, Any]:
    """The names in easyocr/config.py, which holds plain lists; importing it as a module would import torch, too."""
    spec = importlib.util.find_spec("easyocr")
    if spec is None or not spec.submodule_search_locations:
        raise EngineError("ocr engine 'easyocr' needs the package 'easyocr': pip install 'hardquery[easyocr]'")
    return runpy.run_path(str(Path(spec.submodule_search_locations[0]) / "config.py"))


def _recognition_model(languages: Sequence[str], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry of the recognition model that ``easyocr.Reader`` takes for these languages.

    Raises:
        EngineError: no model covers them all.
    """
    chosen = set(languages)
    for generation, name, covered in _RECOGNISERS:
        own = {*(config[f"{covered}_lang_list"] if covered in _FAMILIES else [covered])}
        if chosen & own and not (covered == "en" and chosen != own):
            if rest := sorted(chosen - own - {"en"}):
                raise EngineError(
                    f"ocr engine 'easyocr': no model reads {', '.join(rest)} together with "
                    f"{', '.join(sorted(chosen & own))}; of other languages it knows only en there"
                )
            return config["recognition_models"][generation][name]  # type: ignore[no-any-return]
    raise AssertionError(f"no model for {languages}")  # all known languages are in the table


@dataclass(frozen=True)
class _Crop:
    """A text region of one image: [64, w] grey pixels, and the width that its recognition pads it to."""

    owner: int
    corners: Any
    grey: Any
    padded_width: int


class EasyOcrReader:
    """``easyocr.Reader`` as a ``TextReader``."""

    def __init__(self, reader: Any, min_confidence: float) -> None:
        self._reader = reader
        self._min_confidence = min_confidence
        on_cpu = reader.device == "cpu"  # there a batch saves no time, it only takes memory
        self._detection_batch, self._recognition_batch = (1, 16) if on_cpu else (8, 64)

    def read(self, images: Sequence[Image]) -> list[list[TextBox]]:
        """The lines of each RGB image [height, width, 3], in reading order; single characters are dropped.

        Crops are recognised in batches of one padded width, so that a line reads the same whatever else is there.
        """
        by_width: dict[int, list[_Crop]] = defaultdict(list)
        for crop in self._crops(images):
            by_width[crop.padded_width].append(crop)
        found: list[list[TextBox]] = [[] for _ in images]
        for padded_width, crops in sorted(by_width.items()):
            for crop, (text, confidence) in zip(crops, self._recognize(crops, padded_width), strict=True):
                height, width = images[crop.owner].shape[:2]
                if len(text.strip()) >= 2 and confidence >= self._min_confidence:
                    found[crop.owner].append(TextBox(text, upright_box(crop.corners, width, height), confidence))
        return [reading_order(boxes) for boxes in found]

    def _crops(self, images: Sequence[Image]) -> Iterator[_Crop]:
        import cv2
        from easyocr.utils import get_image_list

        for owners in _batches_of_one_shape(images, self._detection_batch):
            horizontal, free = self._reader.detect(np.stack([images[owner] for owner in owners]), reformat=False)
            for owner, upright, slanted in zip(owners, horizontal, free, strict=True):
                grey = cv2.cvtColor(images[owner], cv2.COLOR_RGB2GRAY)
                # One region a call: it then gets the padded width that is its own, not that of its widest neighbour.
                for region in [([box], []) for box in upright if _touches(grey, box)] + [
                    ([], [box]) for box in slanted
                ]:
                    cut, padded_width = get_image_list(*region, grey, model_height=_HEIGHT)
                    for corners, pixels in cut:
                        yield _Crop(owner, corners, pixels, int(padded_width))

    def _recognize(self, crops: Sequence[_Crop], padded_width: int) -> list[tuple[str, float]]:
        from easyocr.recognition import get_text

        reader = self._reader
        read = get_text(
            reader.character,
            _HEIGHT,
            padded_width,
            reader.recognizer,
            reader.converter,
            [(None, crop.grey) for crop in crops],
            ignore_char="".join(sorted(set(reader.character) - set(reader.lang_char))),
            batch_size=self._recognition_batch,
            workers=0,
            device=reader.device,
        )
        texts = [text for _, text, _ in read]
        if reader.model_lang == "arabic":  # recognised from left to right, as it is drawn
            from bidi import get_display

            texts = [get_display(text) for text in texts]
        return [(text, min(float(confidence), 1.0)) for text, (_, _, confidence) in zip(texts, read, strict=True)]


def _batches_of_one_shape(images: Sequence[Image], size: int) -> Iterator[list[int]]:
    """Indices of images that can be stacked, at most ``size`` at a time."""
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        by_shape[image.shape].append(index)
    for indices in by_shape.values():
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _touches(grey: Any, box: Sequence[int]) -> bool:
    """Whether any pixel of ``box`` (left, right, top, bottom) lies in the image; easyocr stumbles over the others."""
    height, width = grey.shape
    left, right, top, bottom = box
    return bool(min(right, width) > max(left, 0) and min(bottom, height) > max(top, 0))
