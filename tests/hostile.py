"""Texts that a shell, systemd, Snakemake or a server would read as something else than a value."""

from hypothesis import strategies as st

PIECES = [
    "$(touch CANARY)",
    "`touch CANARY`",
    "${IFS}",
    "$HOME",
    "$$",
    "%n",
    "%%",
    "'",
    '"',
    "\\",
    "\\n",
    "\\x41",
    ";touch CANARY;",
    "&& touch CANARY",
    "|touch CANARY",
    ">CANARY",
    "#",
    "!",
    "*",
    "?",
    "~",
    "-",
    "--",
    "=",
    ":",
    ",",
    "@MODEL@",
    '"$dir"',
    " ",
    "  ",
    "a",
    "é",
    "漢",
    "😀",
]
BRACES = ["{x}", "{params.spec}", "}", "{", "<logs>", "<"]


def lines(extra: tuple[str, ...] = (), min_size: int = 0) -> st.SearchStrategy[str]:
    """One line of text that the configuration's door lets in, made of what is hard to quote."""
    piece = st.sampled_from([*PIECES, *extra]) | st.text(
        st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=3
    )
    return st.lists(piece, min_size=min_size, max_size=6).map("".join)


def file_names() -> st.SearchStrategy[str]:
    """A file's or folder's name that a path of the configuration may have."""
    plain = lines(min_size=1).filter(lambda text: not set("/{}<>") & set(text) and text not in (".", ".."))
    return plain.filter(lambda text: 0 < len(text.encode()) < 200)
