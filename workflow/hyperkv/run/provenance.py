"""What Snakemake does not know of a result is not current by itself: records say what they are, all else is made again.

Snakemake compares results with its own metadata, and without it with the time of files alone. Where it has none, or no run
came to its end and noted what a file says, a derived file gets a time before all others, and so does a file of records that
is not what the configuration asks for; a file of records that is, is left, and made newer than what it depends on.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from snakemake.io import IOFile
from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
from snakemake.persistence.file import FilePersistence
from snakemake.settings.enums import PersistenceBackend, RerunTrigger

from ..base.digests import sha256_of
from ..base.durable import replace_durably
from ..base.errors import UserError
from ..base.sources import edited, keep, recall
from ..records.record_file import Identity, disown, identity_in, is_whole
from . import earlier
from .asked import Asked, Wanted
from .last_words import few, refusal_line
from .taking_up import options_of

SEARCHED = ("trials.jsonl", "finalists.jsonl", "evidence.json", "winner.yaml")
MEASURED = (
    "results/sweep/*/*.jsonl",
    "results/profile/**/*.jsonl",
    *(f"results/tune/*/{name}" for name in SEARCHED),
)
DERIVED = (
    *(f"results/{name}/*" for name in ("tables", "figures", "predict", "recommended", "report")),
    "results/summary.json",
    "results/answer.txt",
)
_LOCKS = Path(".snakemake/locks")
_METADATA = Path(".snakemake/metadata")
_MADE = Path(".snakemake/hyperkv/made.json")
_PARSED = Path(".snakemake/hyperkv/parsed.json")
_TRIGGERS = {RerunTrigger.PARAMS, RerunTrigger.INPUT, RerunTrigger.CODE}
_LOADED_S = time.time()  # when this process began, before any job
_OLD = (1.0, 1.0)  # seconds: not 0, which Snakemake takes for no time at all


def recall_code() -> None:
    """Before the code is looked at: what an earlier run here has read of it."""
    recall(_PARSED)


def settle_results(workflow: Any, asked: Asked) -> None:
    """Have Snakemake make again what is not what is asked for, whatever its metadata says or lacks, and say so.

    workflow: Snakemake's. Nothing is deleted but metadata, and nothing done in a job's process, while another run is at work
    here, or where the metadata are no files. Raises UserError when something cannot be read or a file's time not be set.
    """
    if workflow.is_main_process:
        keep(_PARSED)
    in_files = workflow.workflow_settings.persistence_backend == PersistenceBackend.FILE
    if not workflow.is_main_process or not in_files or list(_LOCKS.glob("*.lock")):
        return
    try:
        _tell([*_unseen_changes(sys.argv[1:]), *_settled(workflow, asked)])
    except OSError as error:
        raise UserError(refusal_line(error)) from None


def begin_run(files: Iterable[str]) -> None:
    """Before Snakemake removes the files that it is going to make: keep what was measured until they are there."""
    measured = set(_found(MEASURED))
    try:
        earlier.keep(path for path in map(Path, files) if path in measured)
    except OSError as error:
        _tell([f"earlier measurements are lost where a job fails: {refusal_line(error)}"])


def end_run(workflow: Any, files: Iterable[str], asked: Asked) -> None:
    """After a run: what failed has its earlier records back, and what files say is kept, to notice a change later.

    workflow: Snakemake's; files: those that were to be made. What --touch only called new is not noted as made.
    """
    known, derived = FilePersistence(nolock=True), {str(path) for path in _found(DERIVED)}
    found = derived | {str(path) for path in _found(MEASURED)}
    there = [path for path in files if path in found and _metadata(known, Path(path)) is not None]
    try:
        made = _made()
        if workflow.touch:
            touched = sorted(derived.intersection(there))
            _note({path: digest for path, digest in made.items() if path not in touched})
            if touched:
                _tell([f"{few([Path(path) for path in touched])}: touched, not made; made again if needed"])
        else:
            mine = [path for path in there if (known.metadata(IOFile(path)).starttime or 0) >= _LOADED_S]
            unsure = _made_while_edited(mine, derived, asked)
            for path in unsure:
                known.cleanup_metadata(IOFile(path))
            made |= {path: _digest(Path(path)) for path in there}
            _note({path: digest for path, digest in made.items() if path not in unsure})
        _settled(workflow, asked)
    except OSError as error:
        _tell([refusal_line(error)])
    except UserError as error:
        _tell([f"{error}, then run the same command again"])


def _made_while_edited(made: Sequence[str], derived: set[str], asked: Asked) -> list[str]:
    """Those of the files that a run made of which nobody knows whether the code was as it was when the run began.

    A line says so, and records of a file that this is true of say it themselves.
    """
    files = edited()
    now = Asked(asked.stages)
    unsure = [path for path in made if files and (path in derived or not _is_same_code(path, asked, now))]
    for path in map(Path, unsure):
        if path.suffix == ".jsonl" and is_whole(path):
            disown(path)
    if unsure:
        names = few([Path(file) for file in files])
        _tell(
            [f"{names}: edited while they ran; made again if needed: {few([Path(path) for path in unsure])}"]
        )
    return unsure


def _is_same_code(path: str, asked: Asked, now: Asked) -> bool:
    try:
        before, after = asked.wanted(path), now.wanted(path)
    except (OSError, SyntaxError, ValueError):
        return False
    return before is not None and after is not None and before.identity.code == after.identity.code


def _settled(workflow: Any, asked: Asked) -> list[str]:
    lines, restored = _without_damaged(_METADATA), earlier.restore()
    if restored:
        lines.append(f"{few(restored)}: put back, as the job that was to measure it again did not")
    measured, outputs = (_ruled(workflow, _found(patterns)) for patterns in (MEASURED, DERIVED))
    measured, derived = ([path for path in paths if not path.is_symlink()] for paths in (measured, outputs))
    if links := [path for path in outputs if path.is_symlink()]:
        lines.append(
            f"{few(links)}: a link, so taken as it is, whatever it was made of; delete it to have the file made"
        )
    if not measured and not derived:
        return lines
    known, made = FilePersistence(nolock=True), _made()
    for path in restored:  # what is known is of the job that failed
        known.cleanup_metadata(IOFile(str(path)))
    again = [path for path in measured if _is_stale(known, path, asked.wanted(str(path)))]
    changed, others = (
        _changed(paths, made) for paths in (derived, [path for path in measured if path not in again])
    )
    of_others = [path for path in derived if path not in changed and _is_of_other_files(known, path)]
    unnoted = [path for path in derived if str(path) not in made and _metadata(known, path) is not None]
    for path in [*changed, *of_others, *unnoted]:
        known.cleanup_metadata(IOFile(str(path)))
    for path in [*again, *(path for path in derived if _metadata(known, path) is None)]:
        _make_old(known, path)
    for path in others:  # what is made of them was made of other records
        _set_time(path, None)
    if others:
        _note(made | {str(path): _digest(path) for path in others})
        lines.append(
            f"{few(others)}: other records than when a run last ended here; what is made of them is made again if needed"
        )
    told = (
        (again, "not measured with what is asked for now, or not whole; measured again if needed"),
        (changed, "changed since they were made; made again if needed"),
        (of_others, "made of files that say something else now; made again if needed"),
        (unnoted, "the run that made these did not come to its end; made again if needed"),
    )
    return lines + [f"{few(paths)}: {words}" for paths, words in told if paths]


def _unseen_changes(command: Sequence[str]) -> list[str]:
    """A line when Snakemake's arguments tell it not to look at all that makes a result another one."""
    triggers = getattr(options_of(command), "rerun_triggers", _TRIGGERS)
    if triggers >= _TRIGGERS:
        return []
    return [
        "--rerun-triggers without params, input and code: what is of another configuration or code is left as it is, and "
        "what needs it may be refused"
    ]


def _tell(lines: Iterable[str]) -> None:
    """On stderr, as all that Snakemake says."""
    for line in lines:
        print(f"hyperkv: {line}", file=sys.stderr, flush=True)


def _is_stale(known: FilePersistence, path: Path, wanted: Wanted | None) -> bool:
    """Whether a file of records is to be measured again though Snakemake would not."""
    if wanted is None:
        return False
    metadata = _metadata(known, path)
    told = (
        metadata is not None
        and repr(wanted.spec) in metadata.params
        and any(wanted.identity.code in text for text in metadata.params)
    )
    if not _is_of(path, wanted.identity):
        return (
            metadata is None or told or path.name in SEARCHED
        )  # else Snakemake sees by itself what it is of
    if not told:
        known.cleanup_metadata(IOFile(str(path)))
        if path.stat().st_mtime <= max((os.stat(file).st_mtime for file in wanted.files), default=0.0):
            _set_time(path, None)
    return False


def _made() -> dict[str, str | None]:
    """What files said when they were made, as digests; empty when nothing is known."""
    try:
        found = json.loads(_MADE.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _note(digests: dict[str, str | None]) -> None:
    _MADE.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(_MADE, json.dumps(digests, indent=0).encode())


def _changed(paths: Iterable[Path], made: dict[str, str | None]) -> list[Path]:
    return [path for path in paths if str(path) in made and made[str(path)] != _digest(path)]


def _ruled(workflow: Any, paths: Iterable[Path]) -> list[Path]:
    """Those that a rule makes: all else is somebody's own."""
    outputs = [output for rule in workflow.rules for output in rule.output]
    return [path for path in paths if any(output.match(str(path)) for output in outputs)]


def _digest(path: Path) -> str | None:
    """What names a file's contents; nothing does a folder's, whose files are there to be edited, or those of a pipe."""
    return sha256_of(path) if path.is_file() else None


def _is_of(path: Path, identity: Identity) -> bool:
    """Whether a measured file says that it was measured so; of a search all files, its winner by the evidence, or none."""
    if path.name not in SEARCHED:
        return identity_in(path) == identity
    trials, finalists, evidence, winner = (path.with_name(name) for name in SEARCHED)
    try:
        said = json.loads(evidence.read_text())
        told = said["made"] == str(identity) and (
            not winner.exists() or said["winner_sha256"] == sha256_of(winner)
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False
    return told and identity_in(trials) == identity_in(finalists) == identity


def _is_of_other_files(known: FilePersistence, path: Path) -> bool:
    """Whether a given file, as claims or a model, is another one than a result was made of, though perhaps an older one."""
    found = _metadata(known, path)
    sums = (found.input_checksums if found else None) or {}
    given = {Path(name): said for name, said in sums.items() if Path(name).parts[:1] != ("results",)}
    return any(file.is_file() and said != f"sha256:{sha256_of(file)}" for file, said in given.items())


def _metadata(known: FilePersistence, path: Path) -> MetadataRecord | None:
    """What Snakemake knows of a file, if that is all it compares with; None also of one that was made old."""
    found = known.metadata(IOFile(str(path)))
    if found is None or found.record_format_version < RECORD_FORMAT_VERSION:
        return None
    return None if None in (found.params, found.input, found.code) else found


def _make_old(known: FilePersistence, path: Path) -> None:
    """Have Snakemake make a file again: by its parameters, which it compares where it knows some of every output, and by its
    time, which it compares where a rule has inputs."""
    file = IOFile(str(path))
    unknown = MetadataRecord(rule="not known", starttime=_LOADED_S, endtime=_LOADED_S)
    unlike_any = {"record_format_version": RECORD_FORMAT_VERSION, "params": [], "input": None, "code": None}
    known._write_record(known._get_key(file), (known.metadata(file) or unknown).model_copy(update=unlike_any))
    _set_time(path, _OLD)


def _without_damaged(folder: Path) -> list[str]:
    """Remove the metadata that Snakemake could not read; a line when there was any."""
    if os.path.lexists(folder) and not folder.is_dir():
        folder.unlink()
        return [f"{folder}: no folder, now removed; what does not say itself how it was made is made again"]
    damaged = [path for path in _entries(folder) if not _is_readable(path)]
    for path in damaged:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not damaged:
        return []
    return [
        f"{folder}: {len(damaged)} damaged, now removed; what they were of and does not say itself how it was made is made again"
    ]


def _entries(folder: Path) -> Iterator[Path]:
    """The files of a folder of metadata, and the folders where a file belongs: a long name is in folders named @."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in files)
        yield from (Path(parent, name) for name in folders if not name.startswith("@"))
        folders[:] = [name for name in folders if name.startswith("@")]


def _is_readable(path: Path) -> bool:
    try:
        MetadataRecord.model_validate(json.loads(path.read_text()))
    except (ValueError, TypeError, RecursionError, OSError):
        return False
    return True


def _found(patterns: tuple[str, ...]) -> list[Path]:
    """What there is of patterns, hidden files apart."""
    paths = (path for pattern in patterns for path in sorted(Path().glob(pattern)))
    return [path for path in paths if path.exists() and not path.name.startswith(".")]


def _set_time(path: Path, time: tuple[float, float] | None) -> None:
    stamp = path / ".snakemake_timestamp"
    try:
        os.utime(stamp if stamp.exists() else path, time)
    except OSError as error:
        raise UserError(
            f"{path}: Snakemake does not know how it was made, and its time cannot be set ({error.strerror}); make it "
            f"your own or delete it"
        ) from None
