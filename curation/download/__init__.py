"""Image-caption download: URL lists to shards, through img2dataset on Ray.

>>> download(DownloadConfig(), "list.parquet", "out/shards/web", "out/lists/web", "out/ledger/web")

img2dataset's shard loop, resizer and Ray distributor do the work; fetching, upright decoding and writing are ours:
bounded requests that never reach private networks (`fetch`, `guard`), images upright (`images`, `resize`), shards whole
or not at all (`writer`). See docs/download.md.
"""

from mmcorpus.curation.download.accounts import ShardFailure
from mmcorpus.curation.download.config import VOLATILE, DownloadConfig
from mmcorpus.curation.download.fetch import TRANSIENT_CODES
from mmcorpus.curation.download.formats import ListError
from mmcorpus.curation.download.run import DownloadReport, download

__all__ = [
    "TRANSIENT_CODES",
    "VOLATILE",
    "DownloadConfig",
    "DownloadReport",
    "ListError",
    "ShardFailure",
    "download",
]
