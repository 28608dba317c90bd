"""What a stage of documents asks of its inputs before it runs."""

from pathlib import Path

import pytest

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.filters.web import PrivateAddress
from mmcorpus.pipelines.stages.documents import pages_identity


def test_a_list_that_leads_to_a_private_address_is_called_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "warc.paths").write_text("a.warc.gz\n")
    with pytest.raises(PrivateAddress) as error:
        pages_identity(PagesConfig(prefix="http://127.0.0.1:9/"), (f"{tmp_path}/warc.paths",))
    assert error.value.filename == f"{tmp_path}/warc.paths"
