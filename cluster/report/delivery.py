"""Writes a run's report into its run directory."""

from cluster.report.page import render_report
from cluster.report.run_data import read_run
from cluster.run_directory import RunDirectory
from common.storage import Location, Named, locate


def write_report(path: Named, out: Named | None = None) -> Location:
    """Write the report of a run, from what its directory holds now; return where it is.

    Args:
        path: the run directory.
        out: the file to write; None: `report.html` in the run directory.

    Raises:
        RunDirectoryError: there is no run in this place.
        StorageError: something cannot be read or written.
    """
    target = RunDirectory(path).report if out is None else locate(out)
    target.write_text(render_report(read_run(path)))
    return target
