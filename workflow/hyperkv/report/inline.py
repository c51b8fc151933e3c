"""A figure's SVG as a part of the page: its ids are its own there, and its links lead to rows of the page."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from ..base.errors import UserError

SVG, XLINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
_URL = re.compile(r"url\(#([^)]+)\)")
_LEFT_OUT = {f"{{{SVG}}}metadata", f"{{{SVG}}}style"}


def inlined(path: Path, alternative: str) -> str:
    """The SVG's element for HTML, without size, metadata and style sheet; the page's own has what that one says.

    Ids begin with the file's name, so that two figures share none; places of the page (#cell-…) are left as they are. Links
    are for the pointer: the keyboard has the tables. Raises UserError for a file that is no SVG.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: not an SVG ({error}); delete the file to draw it again") from None
    own = {name: f"{path.stem}-{name}" for element in root.iter() if (name := element.get("id"))}
    for element in list(root.iter()):
        for child in [child for child in element if child.tag in _LEFT_OUT]:
            element.remove(child)
        for name, value in element.attrib.items():
            element.set(name, _renamed(value, name, own))
        if element.tag == f"{{{SVG}}}a":
            element.attrib.pop("target", None)
            element.set("tabindex", "-1")
            element.insert(0, title := ElementTree.Element(f"{{{SVG}}}title"))
            title.text = f"its row: {element.get(XLINK, '')[1:]}"
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": alternative}
    return ElementTree.tostring(root, encoding="unicode")


def _renamed(value: str, name: str, own: dict[str, str]) -> str:
    if name == "id":
        return own[value]
    if name == XLINK:
        return f"#{own[value[1:]]}" if value[1:] in own else value
    return _URL.sub(lambda found: f"url(#{own.get(found[1], found[1])})", value)
