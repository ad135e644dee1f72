"""An embedder of sentence-transformers in this process: texts, or frames with their times, one item at a time."""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from schemas.check import require, require_text
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.engines.embed.encoder import Encoder, LateEncoder
from transforms.engines.local.model_folder import folder_of, model_id, require_model
from transforms.protocols.embed import Reads
from transforms.protocols.engine import EngineError, version_of

_NAME = "sentence_transformers"
_LATE = ("MultiVectorEncoder", "ColBERT")  # what checkpoints of one vector a token call themselves
_COMMIT = re.compile(r"[0-9a-f]{40}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SentenceTransformers:
    """Options of an embedder (see ``presets`` for those of published models).

    ``model`` is the path of a folder, known by its bytes, or a name on the Hugging Face hub, known by its name and
    ``revision``: give a commit where others may change it. ``reads`` says what of a video it is given: its text, or at
    most ``frames`` of its frame pack, evenly spread, with their times, and where the model hears at most ``sound_s``
    seconds of its sound. Text is cut off where the model reads no further. ``query_prompt`` and ``document_prompt`` are
    put before the text, or are the system's message where the model has a chat template, unless ``prompts_in`` says
    text; null leaves the checkpoint's own. ``truncate_dim`` cuts vectors to the first dimensions, which suits models
    that were trained for it, and brings them back to length 1.

    ``late_interaction`` says whether each token has a vector; null leaves it to the checkpoint. Of these, tokens of the
    chat template and of prompts are left out, and of frames all that are none of their own. ``vectors`` bounds those of
    a document, which are clustered (H-Pool, see ``pooled_by_ward``).

    A checkpoint that does not say how tokens become a vector needs ``pooling``; ``own_modules: false`` takes one for
    such that brings modules of this library. ``generation_prompt`` asks its chat template for the start of an answer,
    and ``ending`` is put behind it all. ``trust_remote_code`` runs code that the checkpoint brings along, whose
    ``revision`` is then a commit. ``licence`` is a restriction that is said before a run.
    """

    requires: ClassVar[tuple[str, ...]] = (_NAME, "torch", "torchvision")
    extra: ClassVar[str] = "embed"

    model: str
    revision: str = "main"
    reads: Reads = "text"
    query_prompt: str | None = None
    document_prompt: str | None = None
    truncate_dim: int | None = None
    prompts_in: Literal["system", "text"] = "system"
    frames: int = 64
    sound_s: float = 0.0
    late_interaction: bool | None = None
    vectors: int | None = None
    pooling: Literal["lasttoken", "mean", "cls"] | None = None
    generation_prompt: bool = False
    ending: str = ""
    own_modules: bool = True
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: bool = False
    licence: str = ""

    def __post_init__(self) -> None:
        require_text("model", self.model)
        known = re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None
        require(known, "device must be auto, cpu, cuda, cuda:N or mps", self.device)
        for name in ("truncate_dim", "frames", "vectors"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be at least 1", value)
        require(0 <= self.sound_s < math.inf, "sound_s must be seconds, 0 for none", self.sound_s)
        require(self.reads == "frames" or not self.sound_s, "sound_s is for sound beside frames", self.reads)
        require(self.own_modules or self.pooling is not None, "own_modules: false needs pooling", self.pooling)

    def check(self) -> None:
        """Make sure that the model lies on this machine, and say what its licence forbids.

        Raises:
            EngineError: it does not, or it brings code of which nobody knows what it will be tomorrow.
        """
        if self.trust_remote_code and not (Path(self.model).is_dir() or _COMMIT.fullmatch(self.revision)):
            raise EngineError(f"engine {_NAME!r}: trust_remote_code needs a commit of {self.model} as revision")
        folder = require_model(_NAME, self.model, self.revision)
        if not self._has_modules(folder) and self.pooling is None and not self.is_late:
            raise EngineError(
                f"engine {_NAME!r}: {self.model!r} does not say how tokens become a vector; set pooling to lasttoken, "
                "mean or cls, as its authors say"
            )
        if self.licence:
            _log.warning("%s: %s", self.model, self.licence)

    @property
    def is_late(self) -> bool:
        """Whether each token has a vector."""
        if self.late_interaction is not None:
            return self.late_interaction
        folder = folder_of(self.model, self.revision)
        described = folder / "config_sentence_transformers.json" if folder else None
        if described is None or not described.is_file():
            return False
        return str(json.loads(described.read_text("utf-8")).get("model_type")) in _LATE

    def load(self) -> Encoder:
        """The model on its device. Raises ``EngineError`` where it cannot be loaded."""
        import sentence_transformers
        from transformers.utils import logging

        logging.disable_progress_bar()
        late = self.is_late
        kind = sentence_transformers.MultiVectorEncoder if late else sentence_transformers.SentenceTransformer
        try:
            model = kind(device=None if self.device == "auto" else self.device, **self._where_from(late)).eval()
        except Exception as error:  # whatever a checkpoint's files make the libraries raise
            reason = str(error).strip().partition("\n")[0]
            raise EngineError(f"engine {_NAME!r}: model {self.model!r} cannot be loaded: {reason}") from error
        for wanted, needed in (("video", self.reads == "frames"), ("audio", self.sound_s > 0)):
            if needed and not model.supports(wanted):
                takes = ", ".join(map(str, model.modalities))
                raise EngineError(f"engine {_NAME!r}: model {self.model!r} takes no {wanted}, but {takes}")
        if self.ending:
            template = model.processor.chat_template
            if not template:
                raise EngineError(f"engine {_NAME!r}: model {self.model!r} has no chat template, which an ending needs")
            model.processor.chat_template = f"{template}{{{{ {json.dumps(self.ending)} }}}}"
        return (LateEncoder if late else Encoder)(
            model,
            self.query_prompt,
            self.document_prompt,
            self.frames,
            self.truncate_dim,
            self.vectors,
            self.prompts_in == "text",
        )

    def _has_modules(self, folder: Path) -> bool:
        return self.own_modules and (folder / "modules.json").is_file()

    def _where_from(self, late: bool) -> dict[str, Any]:
        """Where the weights lie; or, of a checkpoint of a transformer alone, the modules that it is made one of."""
        folder = require_model(_NAME, self.model, self.revision)
        loading = {"dtype": self.dtype, "trust_remote_code": self.trust_remote_code}
        if late or self._has_modules(folder):
            return {
                "model_name_or_path": str(folder),
                "trust_remote_code": self.trust_remote_code,
                "local_files_only": True,
                "model_kwargs": {"dtype": self.dtype},
            }
        from sentence_transformers.base.modules import Normalize, Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling

        template = {"chat_template": {"add_generation_prompt": self.generation_prompt}}
        transformer = Transformer(str(folder), model_kwargs=loading, processing_kwargs=template)
        return {"modules": [transformer, Pooling(transformer.get_embedding_dimension(), self.pooling), Normalize()]}

    def stamp(self) -> EngineStamp:
        """Both sides."""
        return self._stamp("", self._of_a_query, self._of_a_document)

    def query_stamp(self) -> EngineStamp:
        """See ``EmbedEngine``."""
        return self._stamp("query", self._of_a_query)

    def document_stamp(self) -> EngineStamp:
        """See ``EmbedEngine``."""
        return self._stamp("document", self._of_a_document)

    @property
    def _of_a_query(self) -> list[object]:
        return [self.query_prompt]

    @property
    def _of_a_document(self) -> list[object]:
        seen = self.frames if self.reads == "frames" else None
        return [self.document_prompt, self.reads, seen, self.vectors, *([self.sound_s] if self.sound_s else [])]

    def _stamp(self, side: str, *options: list[object]) -> EngineStamp:
        release = version_of("sentence-transformers")
        model = model_id(self.model, self.revision, self.trust_remote_code)
        both = [self.truncate_dim, self.late_interaction, self.pooling, self.generation_prompt, self.dtype]
        asked = (self.ending, self.prompts_in, self.own_modules)
        options = options if asked == ("", "system", True) else ([*asked], *options)
        return EngineStamp(_NAME, release, model, fingerprint([_NAME, release, model, side, both, *options]))
