"""The model of Video-ColBERT: a CLIP or SigLIP, and a temporal transformer over the vectors of a video's frames."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from schemas.check import read_plain
from trainer.model.hub import require_in_reach
from trainer.retriever.folder import CONFIG, OURS, WEIGHTS, RetrieverError, is_video_colbert

Level = Literal["frames", "video"]
LEVELS: tuple[Level, ...] = get_args(Level)

_CLIP_START = (math.log(10), -10.0)
_POSITION_STD = 0.1  # beside frame vectors of unit variance


@dataclass(frozen=True, slots=True)
class Shape:
    """What a Video-ColBERT is beyond its CLIP or SigLIP.

    ``levels`` are those that a video's score is summed over: "frames", each frame by itself, and "video", frames and
    ``expansions`` learnt tokens after ``layers`` layers of ``heads`` heads. A query is cut or padded to
    ``query_tokens``, a video has at most ``frames`` frames. ``base`` and ``revision`` are what training began with.
    """

    frames: int = 12
    query_tokens: int = 32
    levels: tuple[Level, ...] = LEVELS
    layers: int = 4
    heads: int = 8
    expansions: int = 2
    dropout: float = 0.1
    base: str = ""
    revision: str | None = None


class Encoded(NamedTuple):
    """What a forward pass returns.

    Unit vectors: ``query`` [queries, tokens, dims], ``levels`` [videos, vectors, dims] each; ``logit`` holds t' and b
    of the loss.
    """

    query: Tensor
    levels: tuple[Tensor, ...]
    logit: Tensor


class Temporal(nn.Module):
    """A pre-norm transformer over a video's frames in their order, followed by learnt tokens (visual expansion).

    Nothing is normalised after its last layer, so that at first a frame comes out much as it went in: what the model
    knows of frames serves this level from the first step.
    """

    def __init__(self, shape: Shape, dims: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(shape.frames, dims) * _POSITION_STD)
        self.expansion = nn.Parameter(torch.randn(shape.expansions, dims) * _POSITION_STD)
        layer = nn.TransformerEncoderLayer(
            dims, shape.heads, 4 * dims, shape.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """[videos, frames, dims] to [videos, frames + expansions, dims]; ``mask`` is of both."""
        tokens = torch.cat([frames + self.position, self.expansion.expand(len(frames), -1, -1)], 1)
        mixed: Tensor = self.encoder(tokens, src_key_padding_mask=~mask)
        return mixed


class VideoColbert(nn.Module):
    """Queries and videos to unit vectors in the space of a CLIP, SigLIP or SigLIP 2, ``backbone``."""

    def __init__(self, backbone: Any, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.backbone = backbone
        self.dims = int(_token_projection(backbone).out_features)
        if "video" in shape.levels and self.dims % shape.heads:
            raise RetrieverError(f"heads must divide the model's {self.dims} dimensions, got {shape.heads}")
        tokens = backbone.config.text_config.max_position_embeddings
        if shape.query_tokens > tokens:
            raise RetrieverError(f"query_tokens must be at most the model's {tokens}, got {shape.query_tokens}")
        self.temporal = Temporal(shape, self.dims) if "video" in shape.levels else None
        start = [float(value.detach()) for value in _learnt_logit(backbone)] or _CLIP_START
        self.scale, self.bias = (nn.Parameter(torch.tensor(value)) for value in start)
        for unused in _logit_parameters(backbone):
            unused.requires_grad_(False)  # ours are trained; one without a gradient would hold up other devices

    def queries(self, ids: Tensor) -> Tensor:
        """Vectors of all tokens [queries, tokens, dims] of token ids [queries, tokens].

        Padding is kept and seen: no attention mask.
        """
        hidden = self.backbone.text_model(input_ids=ids).last_hidden_state
        return F.normalize(_token_projection(self.backbone)(hidden).float(), dim=-1)

    def videos(self, images: Mapping[str, Tensor], counts: Tensor) -> tuple[Tensor, ...]:
        """Vectors of each level [videos, vectors, dims]; ``masks`` says which of them are there.

        ``images`` are the inputs of the image tower for the frames of all videos, video by video; ``counts`` [videos]
        how many each has.
        """
        mask = self._frame_mask(counts)
        found = self.backbone.get_image_features(**images).pooler_output.float()
        frames = found.new_zeros((*mask.shape, self.dims))
        frames[mask] = F.normalize(found, dim=-1)
        levels: dict[Level, Tensor] = {"frames": frames}
        if self.temporal is not None:
            mixed = self.temporal(frames * math.sqrt(self.dims), self._with_expansions(mask))
            levels["video"] = F.normalize(mixed.float(), dim=-1)
        return tuple(levels[level] for level in self.shape.levels)

    def masks(self, counts: Tensor) -> tuple[Tensor, ...]:
        """Which vectors of each level are there, [videos, vectors]."""
        frames = self._frame_mask(counts)
        masks: dict[Level, Tensor] = {"frames": frames, "video": self._with_expansions(frames)}
        return tuple(masks[level] for level in self.shape.levels)

    def forward(self, ids: Tensor, images: Mapping[str, Tensor], counts: Tensor) -> Encoded:
        """Queries and videos at once, so that every weight has its gradient from one call."""
        return Encoded(self.queries(ids), self.videos(images, counts), torch.stack([self.scale, self.bias]))

    def _frame_mask(self, counts: Tensor) -> Tensor:
        return torch.arange(self.shape.frames, device=counts.device) < counts[:, None]

    def _with_expansions(self, mask: Tensor) -> Tensor:
        return F.pad(mask, (0, self.shape.expansions), value=True)

    def save(self, folder: Path) -> None:
        """Write weights and configuration; with the processor's files beside them, transformers reads the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS)
        self.save_config(folder)

    def save_config(self, folder: Path) -> None:
        """Write the CLIP's or SigLIP's configuration with our own values in it."""
        values = self.backbone.config.to_dict() | {OURS: asdict(self.shape)}
        (folder / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True, default=str) + "\n", "utf-8")


def load_video_colbert(folder: Path) -> VideoColbert:
    """The model that ``VideoColbert.save`` wrote.

    Raises:
        RetrieverError: the folder holds none, or its weights are not all of it.
    """
    if not is_video_colbert(folder):
        raise RetrieverError(f"{folder} holds no Video-ColBERT: give what `hardquery train retriever` wrote")
    config = AutoConfig.from_pretrained(folder)
    shape = read_plain(getattr(config, OURS), Shape)
    delattr(config, OURS)
    model = VideoColbert(AutoModel.from_config(config, dtype=torch.float32), shape)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise RetrieverError(f"{folder}/{WEIGHTS} cannot be loaded: {' '.join(str(error).split())}") from error
    return model


def start_video_colbert(base: str, revision: str | None, shape: Shape) -> VideoColbert:
    """A model to be trained on top of a CLIP, SigLIP or SigLIP 2: a folder, or a name on the Hub at a revision.

    t' and b of the loss start from SigLIP's own, which belong to its weights; those of a CLIP from ln 10 and -10.

    Raises:
        RetrieverError: it cannot be loaded, or is of another kind.
    """
    require_in_reach(base, revision)
    try:
        backbone = AutoModel.from_pretrained(base, revision=revision, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise RetrieverError(f"model {base!r} cannot be loaded: {' '.join(str(error).split())}") from error
    return VideoColbert(backbone, shape)


def _token_projection(backbone: Any) -> Any:
    """What brings a text token into the shared space."""
    if hasattr(backbone, "text_projection"):
        return backbone.text_projection  # CLIP
    if hasattr(backbone, "text_model") and hasattr(backbone.text_model, "head"):
        return backbone.text_model.head  # SigLIP, SigLIP 2
    raise RetrieverError(f"{type(backbone).__name__} is no CLIP, SigLIP or SigLIP 2")


def _logit_parameters(backbone: Any) -> list[Any]:
    return [getattr(backbone, name) for name in ("logit_scale", "logit_bias") if hasattr(backbone, name)]


def _learnt_logit(backbone: Any) -> list[Any]:
    """t' and b of a model that was trained with the sigmoid loss; nothing of one that was not."""
    found = _logit_parameters(backbone)
    return found if len(found) == 2 else []
