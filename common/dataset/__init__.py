"""Datasets: what env runners sampled, as tables that other programs read, too.

A dataset is a folder on any filesystem that pyarrow reaches:

    dataset.json                      the manifest: what the dataset is, and its parts' checksums
    teacher.safetensors, .json        the teacher, whose labels the rows carry
    task=NAME/part-00000.parquet …    one row an observation, one row group a chunk

`common.dataset.table` says what is in a row, `writer` and `reader` are the two ends. A part is
written whole or not at all, and the manifest after it, so that a recording that ends early, however
it ends, leaves a smaller dataset behind and no broken one.
"""

from common.dataset.manifest import Manifest, Part
from common.dataset.reader import Dataset, Split, open_dataset
from common.dataset.writer import DatasetWriter, Recorded

__all__ = [
    "Dataset",
    "DatasetWriter",
    "Manifest",
    "Part",
    "Recorded",
    "Split",
    "open_dataset",
]
