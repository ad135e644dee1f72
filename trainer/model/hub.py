"""Models by their name on the Hub: whether one can be had at all, asked once, before libraries ask again and again."""

from __future__ import annotations

from pathlib import Path

from trainer.config.errors import TrainingError

_PATIENCE_S = 10.0


class OutOfReach(TrainingError):
    """A model that does not lie on this machine, while the Hub cannot be asked for it; one line that names the fix."""


def require_in_reach(model: str, revision: str | None) -> None:
    """Refuse a name on the Hub that this machine does not have and cannot get.

    A name that the Hub does not know is left to whoever loads the model, and says so.

    Raises:
        OutOfReach: there is no network, or none is to be used.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if Path(model).is_dir():
        return
    try:
        if isinstance(try_to_load_from_cache(model, "config.json", revision=revision), str):
            return
        get_hf_file_metadata(hf_hub_url(model, "config.json", revision=revision), timeout=_PATIENCE_S)
    except (HfHubHTTPError, HFValidationError):
        return
    except Exception as error:  # the library's HTTP client has errors of its own, and is another every few releases
        raise OutOfReach(
            f"model {model!r} is neither a folder nor in this machine's Hugging Face cache, and the Hub does not "
            f"answer ({' '.join(str(error).split())}): give the path of a model's folder, or, where there is a "
            f"network, run: hf download {model}"
        ) from error
