"""Pages of the studies are made of the figures beside them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.mark.parametrize("page", sorted(STUDIES.glob("*/page.py")), ids=lambda page: page.parent.name)
def test_a_page_is_made_of_the_figures_that_are_committed(page: Path, tmp_path: Path) -> None:
    """No figure on a page was changed by hand, and no rule without the page."""
    folder = shutil.copytree(page.parent, tmp_path / page.parent.name)
    subprocess.run([sys.executable, page, folder], check=True, timeout=120)
    made = [file.name for file in folder.iterdir() if file.suffix in (".md", ".svg")]
    for name in made:
        assert (folder / name).read_text("utf-8") == (page.parent / name).read_text("utf-8"), name
