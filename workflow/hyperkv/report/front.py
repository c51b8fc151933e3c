"""What README shows of kept runs: the picture pays and the answer of the newest on a laptop, the answer of those on real GPUs, and the list of all
in results/reference; pages of runs that are not kept any more go.

python -m workflow.hyperkv.report.front
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ..base.cli import run_stage
from ..base.errors import UserError
from ..records.kept_run import ABOUT, KeptRun, read_about, read_run
from . import gpu_answer

PAGES, PICTURE, README = Path("docs/results"), Path("docs/images/pays.svg"), Path("README.md")
KEPT, LIST = Path("results/reference"), Path("results/reference/README.md")


def main(
    *,
    pages: Path = PAGES,
    picture: Path = PICTURE,
    readme: Path = README,
    kept: Path = KEPT,
    listed: Path = LIST,
) -> None:
    """Copy the picture, and write both answers and the list between their comments.

    Args:
        pages: folder with the pages of kept runs.
        picture: where it is copied to.
        readme: the file that begins with the answer.
        kept: folder of kept runs.
        listed: the file with the list of them.
    """
    folders = sorted(path.parent for path in kept.glob(f"*/*/{ABOUT}"))
    remove_others(pages, folders)
    name = newest(pages)
    picture.parent.mkdir(exist_ok=True)
    picture.write_text((pages / name / "pays.svg").read_text())
    write_between(readme, "answer", answer(pages, name))
    write_between(
        readme,
        "answer on GPUs",
        on_gpus([read_run(folder) for folder in folders if read_about(folder).answer]),
    )
    write_between(listed, "runs", runs_list(folders))


def write_between(path: Path, name: str, text: str) -> None:
    """Put a text between `<!-- name -->` and `<!-- end of name -->` of a file. Raises UserError when these are not there."""
    block = re.compile(rf"(?<=<!-- {name} -->\n)(.*?)(?=<!-- end of {name} -->)", re.DOTALL)
    written, found = block.subn(lambda _: text, path.read_text())
    if not found:
        raise UserError(
            f"{path}: there are no lines <!-- {name} --> and <!-- end of {name} -->; put them back"
        )
    path.write_text(written)


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


def on_gpus(runs: Sequence[KeptRun]) -> str:
    """The answer of the runs that are marked as it, and links to them, as README has them; nothing without any."""
    told = gpu_answer.answer(runs)
    if not told:
        return ""
    links = ", ".join(f"[{place}](docs/results/{run.name}.md)" for place, run in enumerate(runs, 1))
    return f"{gpu_answer.quoted(told)}\nRuns: {links}.\n"


def runs_list(folders: Sequence[Path]) -> str:
    """A line per kept run, the newest first, with a link to its page, as the list has them."""
    newest_first = sorted(folders, key=lambda folder: folder.name, reverse=True)
    return "".join(
        f"- [{folder.parent.name}/{folder.name}](../../docs/results/{folder.parent.name}-{folder.name}.md): {read_about(folder).title}\n"
        for folder in newest_first
    )


def remove_others(pages: Path, folders: Sequence[Path]) -> None:
    """Remove the pages, and their pictures, of runs that are not among the folders."""
    names = {f"{folder.parent.name}-{folder.name}" for folder in folders}
    for page in pages.glob("*-20*.md"):
        if page.stem not in names:
            page.unlink()
            shutil.rmtree(page.with_suffix(""), ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run_stage("front", main))
