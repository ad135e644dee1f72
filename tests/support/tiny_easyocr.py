"""easyocr weights of the real architecture without the real knowledge: the detector sees one box as large as the frame,
the recogniser reads letters at random. They pass through easyocr's own loading code and take 15 MB."""

from __future__ import annotations

from pathlib import Path

import pytest


def write_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write detector and English recogniser into ``folder``, and tell easyocr their MD5."""
    import torch
    from easyocr.config import detection_models, recognition_models
    from easyocr.craft import CRAFT
    from easyocr.model.vgg_model import Model
    from easyocr.utils import calculate_md5

    english = recognition_models["gen2"]["english_g2"]
    # Zeros that share one number on disk; the last bias is the (text, link) score of every pixel.
    detector = {
        key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in CRAFT().state_dict().items()
    }
    detector["conv_cls.8.bias"] = torch.tensor([0.9, 0.0])

    torch.manual_seed(7)
    recogniser = Model(1, 256, 256, num_class=len(english["characters"]) + 1).state_dict()
    # With weights as small as torch draws them, every image reads "$".
    for layers, scale in (("FeatureExtraction", 3), ("SequenceModeling", 4), ("Prediction", 50)):
        for key in recogniser:
            if key.startswith(layers) and recogniser[key].ndim >= 2:
                recogniser[key] *= scale

    for entry, weights in ((detection_models["craft"], detector), (english, recogniser)):
        path = folder / entry["filename"]
        torch.save({f"module.{key}": value for key, value in weights.items()}, path)
        monkeypatch.setitem(entry, "md5sum", calculate_md5(str(path)))
    return folder
