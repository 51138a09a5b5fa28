"""Parser of XML that refuses a DOCTYPE and bounds the length and the number of elements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from qbackup.base.errors import Damaged, LimitExceeded
from qbackup.base.limits import Limits
from qbackup.base.names import METADATA_PATH

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element, XMLParser

_ELEMENT_SIZE = 48  # bytes of text; Qubes writes 60 or more. In memory an element takes 80 to 260
_PIECE_SIZE = 64 * 1024
_LONG_TAG = re.compile(rb"<[^<]{1048576}")  # the parser holds all attributes of a tag at once


def parse_xml(data: bytes, limits: Limits, *, file: str = METADATA_PATH) -> Element:
    """Parses a document; gives its root.

    Args:
        data: the document.
        limits: `Limits.metadata` bounds its length.
        file: its name, for errors.

    Raises:
        Damaged: the document is no XML, or has a DOCTYPE.
        LimitExceeded: the document is longer, or has more elements and attributes, than allowed.
    """
    document = file.rpartition("/")[2]
    if len(data) > limits.metadata:
        raise LimitExceeded(f"{document} is too long", limit="metadata", file=file)
    from xml.etree.ElementTree import ParseError, TreeBuilder, XMLParser

    allowed = limits.metadata // _ELEMENT_SIZE

    class StrictBuilder(TreeBuilder):
        elements = 0

        def start(self, tag: str, attributes: dict[str, str], /) -> Element:
            # an attribute takes at most half as much memory as an element
            self.elements += 1 + len(attributes) // 2
            if self.elements > allowed:
                raise LimitExceeded(
                    f"{document} has too many elements and attributes",
                    limit="metadata",
                    file=file,
                )
            return super().start(tag, attributes)

        def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
            raise Damaged(f"it has a DOCTYPE, which {document} never has", file=file)

    if _LONG_TAG.search(data):
        raise LimitExceeded(f"{document} has an endless tag", limit="metadata", file=file)
    parser: XMLParser[Any] = XMLParser(target=StrictBuilder())  # noqa: S314
    try:
        # An error above is only raised at the end of a feed, so the document is fed in small blocks
        for start in range(0, len(data), _PIECE_SIZE):
            parser.feed(data[start : start + _PIECE_SIZE])
        root: Element = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        raise Damaged(f"it is not well-formed XML ({error})", file=file) from error
    return root
