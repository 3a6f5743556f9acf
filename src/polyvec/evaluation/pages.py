"""What the self-contained HTML pages share."""

from __future__ import annotations

import jinja2


def page_environment() -> jinja2.Environment:
    """Templates of this folder; whatever is filled in is escaped, and an unknown name is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("polyvec.evaluation", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
