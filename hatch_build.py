"""The parts of a distribution's metadata that depend on where the project lives.

`PROJECT_URL=https://HOST/OWNER/galip make dist` gives the distribution its project URLs, and makes the relative links
of README.md absolute, as nothing lies beside it on a package index. Without it there are no URLs
and links stay relative.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)")


class Metadata(MetadataHookInterface):
    """Fills in `urls` and `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set both."""
        url = os.environ.get("PROJECT_URL", "").rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, url) if url else text}
        if url:
            metadata["urls"] = project_urls(url)


def project_urls(url: str) -> dict[str, str]:
    """The addresses that a package index shows."""
    return {
        "Homepage": url,
        "Documentation": f"{url}/blob/main/docs/index.md",
        "Changelog": f"{url}/blob/main/CHANGELOG.md",
        "Issues": f"{url}/issues",
    }


def absolute_links(text: str, url: str) -> str:
    """Markdown whose relative links lead into the repository at `url`: files to its pages, images to the bytes."""
    return _LINK.sub(lambda m: f"{m[1]}[{m[2]}]({url}/{'raw' if m[1] else 'blob'}/main/{m[3]})", text)
