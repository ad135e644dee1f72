"""An output, or an export of it, as a dataset repository on the Hugging Face Hub."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.manifest import MANIFEST, read_manifest
from transforms.storage.address import is_remote


def files_to_push(output: str) -> list[str]:
    """The files of an output that go to the Hub: those that its manifest lists, and the manifest.

    Marks, answers of people and exports beside them stay. The card's front matter makes a configuration of each table.

    Raises:
        NotAnOutput: it is none.
    """
    return [*(file.path for file in read_manifest(output).files), MANIFEST]


def push(folder: str, files: Sequence[str], repository: str, private: bool) -> str:
    """Upload ``files`` of a folder of this machine, in one commit; returns the address of the repository.

    The repository is made where it is not there yet. The key is the one that ``hf auth login`` or HF_TOKEN gives; it is
    neither asked for nor told.

    Raises:
        UnwritableExport: the folder is no local one, or the Hub does not take it; one line that says why.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if is_remote(folder):
        raise UnwritableExport(f"{folder} is in an object store: only a folder of this machine can be pushed")
    api = HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=os.path.abspath(folder),
            allow_patterns=list(files),
            commit_message="hardquery export --push",
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UnwritableExport(f"cannot push to {repository}: {reason}; is there a key? hf auth login") from error
    return f"{api.endpoint}/datasets/{repository}"
