"""Reads and writes files."""

from tf_lottery.files.arrays import check_fields as check_fields
from tf_lottery.files.arrays import load_arrays as load_arrays
from tf_lottery.files.arrays import load_metadata as load_metadata
from tf_lottery.files.arrays import reading as reading
from tf_lottery.files.arrays import save_arrays as save_arrays
from tf_lottery.files.atomic import atomic_path as atomic_path
from tf_lottery.files.atomic import sweep as sweep
