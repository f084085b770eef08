"""hpcseg scaling report: a study as one page."""

from __future__ import annotations

from pathlib import Path

import click

from hpcseg.scaling.page import write_study_page


@click.command("report")
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(out: Path) -> int:
    """Draw the study in the folder OUT: OUT/report.html, which opens anywhere without a network, and OUT/figures/*.png."""
    page, *figures = write_study_page(out)
    print(f"wrote {page}\nwrote {len(figures)} figures in {out / 'figures'}")
    return 0
