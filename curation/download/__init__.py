"""Image-caption download: URL lists to shards of img2dataset's layout, on Ray.

>>> download(DownloadConfig(), "list.parquet", "out/shards/web", "out/lists/web", "out/ledger/web")

Images are resized by img2dataset's resizer; fetching, upright decoding, the shard loop and writing are ours: bounded
requests that never reach private networks (`fetch`, `guard`), images upright (`images`, `resize`), shards whole or not
at all (`shard`, `writer`). See docs/download.md.
"""

from mmcorpus.curation.download.config import VOLATILE, DownloadConfig
from mmcorpus.curation.download.fetch import TRANSIENT_CODES
from mmcorpus.curation.download.formats import ListError
from mmcorpus.curation.download.run import DownloadReport, ShardFailure, download

__all__ = [
    "TRANSIENT_CODES",
    "VOLATILE",
    "DownloadConfig",
    "DownloadReport",
    "ListError",
    "ShardFailure",
    "download",
]
