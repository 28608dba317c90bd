"""Out of mmcorpus: selected samples, documents and packs in the layouts that other programs read.

`run.py` knows how an export is done, once: which samples, how often, in what order, which shards are there already. A
file a layout says how samples are written in it, and what it cannot hold.
"""

from mmcorpus.packing.export.run import Exporter as Exporter
from mmcorpus.packing.export.run import ExportReport as ExportReport
from mmcorpus.packing.export.run import export_samples as export_samples
