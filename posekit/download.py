"""Files from the network, whole or not there: weights and data sets.

`pooch` downloads into a temporary file, tries again when the connection breaks, and gives the file its name when its
checksum is right; `huggingface_hub` does the same for its own files. Two processes may fetch the same file at once.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from posekit.files import write_bytes

RETRIES = 3
RECORD = ".sha256"  # of a file whose checksum its publisher does not state: the first download's, kept beside it


def cache_folder() -> Path:
    """Where downloaded weights are kept: $POSEKIT_CACHE, or the system's folder for caches."""
    import pooch

    return Path(os.environ.get("POSEKIT_CACHE") or pooch.os_cache("posekit"))


def fetch(url: str, folder: str | Path | None = None, name: str = "", sha256: str = "", progress: bool = True) -> Path:
    """The local copy of a file: the one that is there, or else downloaded.

    Args:
        url: http(s), or "hf:ORG/NAME" and "hf:ORG/NAME/FILE" of the Hugging Face hub (FILE: "model.safetensors").
        folder: where it goes (`cache_folder()`); name: its name there (the URL's last part). The hub's files stay in
            the hub's own cache.
        sha256: its checksum, or the first digits of it; "": unknown, then what the first download had is written to
            NAME.sha256, and later ones must have it as well.

    Raises:
        ConnectionError: it is not there and cannot be downloaded; the sentence says where to put it.
        ValueError: what was downloaded, or lies there, is another file.
    """
    if url.startswith("hf:"):
        return _from_hub(url, sha256)
    import pooch
    import requests

    folder, name = Path(folder or cache_folder()), name or url.rpartition("/")[2]
    path, record = folder / name, folder / (name + RECORD)
    wanted = record.read_text().strip() if record.is_file() and not sha256 else sha256
    if path.is_file():
        if not record.is_file():
            _keep_checksum(record, _checked(path, wanted, url))
        return path

    def download(url: str, output: str | Path, _) -> None:
        pooch.HTTPDownloader(progressbar=progress, timeout=30)(url, output, None)
        _checked(Path(output), wanted, url, name)

    server = pooch.create(folder, base_url="", registry={name: None}, urls={name: url}, retry_if_failed=RETRIES)
    try:
        server.fetch(name, downloader=download)
    except (requests.RequestException, OSError) as error:
        raise ConnectionError(
            f"{url} cannot be downloaded ({_first_line(error)}): try again with a network, or fetch it elsewhere and "
            f"put it at {path}"
        ) from error
    _keep_checksum(record, _checked(path, wanted, url))
    return path


def _from_hub(url: str, sha256: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    parts = url.removeprefix("hf:").split("/")
    if len(parts) < 2 or not all(parts):
        raise ValueError(f"{url!r} names no repository of the Hugging Face hub: give hf:ORG/NAME or hf:ORG/NAME/FILE")
    file = "/".join(parts[2:]) or "model.safetensors"
    try:
        path = Path(hf_hub_download("/".join(parts[:2]), file))
    except HFValidationError as error:
        raise ValueError(f"{url!r} names no repository of the Hugging Face hub: {_first_line(error)}") from error
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        page = f"https://huggingface.co/{'/'.join(parts[:2])}"
        raise ConnectionError(
            f"{file} of {page} cannot be downloaded ({_first_line(error)}): try again with a network, or fetch it "
            "elsewhere and give its path as the weights"
        ) from error
    if sha256:
        _checked(path, sha256, url)
    return path


def _checked(path: Path, wanted: str, url: str, name: str = "") -> str:
    """The file's checksum. Raises ValueError if it is not the wanted one, or does not begin with it."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted.lower()):
        raise ValueError(
            f"{name or path} is not the file that was published: its sha256 begins with {found[:12]} and not with "
            f"{wanted[:12]}; if it is there, delete it, and fetch it again from {url}"
        )
    return found


def _keep_checksum(record: Path, found: str) -> None:
    write_bytes(record, f"{found}\n".encode())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
