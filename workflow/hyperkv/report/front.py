"""What README shows of the newest run on a laptop: its picture pays, and the answer of its page.

python -m workflow.hyperkv.report.front
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ..base.cli import run_stage
from ..base.errors import UserError

PAGES, PICTURE, README = Path("docs/results"), Path("docs/images/pays.svg"), Path("README.md")
ANSWER = re.compile(r"(?<=<!-- answer -->\n)(.*?)(?=<!-- end of answer -->)", re.DOTALL)


def main(*, pages: Path = PAGES, picture: Path = PICTURE, readme: Path = README) -> None:
    """Copy the picture, and write the answer between the two comments of README.

    Args:
        pages: folder with the pages of kept runs.
        picture: where it is copied to.
        readme: the file that begins with the answer.
    """
    name = newest(pages)
    picture.parent.mkdir(exist_ok=True)
    picture.write_text((pages / name / "pays.svg").read_text())
    readme.write_text(ANSWER.sub(lambda _: answer(pages, name), readme.read_text()))


def newest(pages: Path) -> str:
    """The name of the newest kept run on a laptop whose stores were measured. Raises UserError when there is none."""
    names = [path.parent.name for path in pages.glob("laptop-*/pays.svg")]
    if not names:
        raise UserError(f"{pages}: no page of a laptop has a picture pays; run make docs")
    return max(names)


def answer(pages: Path, name: str) -> str:
    """The answer that a page begins with, and a link to it, as README has them."""
    told = re.findall(r"^> (.*)$", (pages / f"{name}.md").read_text(), re.MULTILINE)
    date = name.removeprefix("laptop-")
    return "\n".join(
        [*(f"> {line}" for line in told), "", f"[The run of {date}](docs/results/{name}.md)", ""]
    )


if __name__ == "__main__":
    sys.exit(run_stage("front", main))
