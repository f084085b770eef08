"""What any page of ours must be, found by parsing it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "link", "img", "br", "hr", "input"}
_ADDRESSES = ("src", "href", "srcset", "action", "data", "poster")


@dataclass
class Page(HTMLParser):
    """A parsed page. words: all its text. images: (alternative text, address). addresses: of everything it names. faults: in its form."""

    images: list[tuple[str, str]] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    words: str = ""
    faults: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.addresses += [given[name] or "" for name in _ADDRESSES if name in given]
        self.addresses += re.findall(r"url\(([^)]*)\)", given.get("style") or "")
        if tag == "img":
            self.images.append((given.get("alt") or "", given["src"]))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if self._open and self._open[-1] == "style":
            self.addresses += re.findall(r"url\(([^)]*)\)|@import", data)
        else:
            self.words += " " + data

    @property
    def text(self) -> str:
        """Its words, one blank between them."""
        return " ".join(self.words.split())


def read_page(path: Path) -> Page:
    """Parse a page, after looking whether it is one that needs nothing beside it."""
    page = Page()
    text = path.read_text(encoding="utf-8")
    page.feed(text)
    page.close()
    assert text.startswith("<!doctype html>")
    assert not page.faults
    assert not page._open
    assert "script" not in page.tags
    assert 'name="viewport"' in text
    assert "@media print" in text
    outside = [each for each in page.addresses if re.match(r"[a-z]+:|//", each) and not each.startswith("data:")]
    assert not outside, "a page names nothing outside itself"
    assert all(alt for alt, _ in page.images), "a picture without words"
    for _, address in page.images:
        kind, _, data = address.partition(";base64,")
        drawn = base64.b64decode(data, validate=True)
        assert drawn.startswith({"data:image/png": b"\x89PNG", "data:image/svg+xml": b"<svg"}[kind])
        assert kind != "data:image/svg+xml" or not re.search(rb'href="(?!#|data:)', drawn)
    return page
