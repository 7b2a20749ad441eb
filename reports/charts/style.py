"""How all charts look, and how a figure becomes SVG for a page, or a file for a paper."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree as Xml

from accelsim.errors import printable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

# Ink becomes the text colour of the page, so that charts follow its theme.
INK, FAINT = "#222222", "#dddddc"
RED = "#D4004F"
FIGURE_KINDS = ("svg", "pdf", "png")
FONT_PX, SMALL_PX = 11.0, 9.5
# Width of a character of DejaVu Sans, in parts of the size of the font, rounded up.
_CHARACTER = 0.66
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_PRESENTATION = re.compile(r"[a-z-]+")


@dataclass
class Drawing:
    """A figure whose units are pixels, with texts for its marks that show where the pointer rests."""

    figure: Figure
    tips: list[str] = field(default_factory=list)

    def tip(self, artist: Artist, text: str) -> None:
        """Give a mark a text."""
        artist.set_gid(f"tip-{len(self.tips)}")
        self.tips.append(text)


Draw = Callable[[], Drawing]


@dataclass(frozen=True)
class Chart:
    """One chart of a report with the rows that it shows."""

    key: str
    """File name of the figure."""
    alt: str
    """What it shows, for those who do not see it."""
    draw: Draw | None
    """None where data is missing, and `missing` says which."""
    missing: str = ""


def settings() -> dict[str, object]:
    """Return matplotlib's settings for all charts: the same bytes for the same data, and names that are no formulas."""
    return {
        "svg.hashsalt": "accel-sim",
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "font.family": "DejaVu Sans",
        "font.size": FONT_PX,
        "text.parse_math": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "path.simplify": False,
        "figure.dpi": 72,
        "savefig.dpi": 72,
        "axes.unicode_minus": False,
    }


def blank(width: float, height: float) -> Drawing:
    """Return an empty figure of a size in pixels; without pyplot, so that no display is asked for."""
    from matplotlib.figure import Figure

    return Drawing(Figure(figsize=(width / 72, height / 72)))


def place(drawing: Drawing, left: float, top: float, right: float, bottom: float) -> Axes:
    """Return axes with margins in pixels, without a frame."""
    width, height = (72 * inches for inches in drawing.figure.get_size_inches())
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    axes = drawing.figure.add_axes(box)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    return axes


def bar(axes: Axes, start: float, row: float, length: float, colour: str, height: float = 0.74) -> Rectangle:
    """Draw a bar in the middle of a row; cheaper than barh, because limits are set by hand."""
    from matplotlib.patches import Rectangle

    mark = Rectangle((start, row - height / 2), length, height, facecolor=colour, linewidth=0)
    axes.add_artist(mark)
    return mark


def row_names(axes: Axes, names: Sequence[str], left: float) -> None:
    """Write the names of rows to the left of axes; cheaper than ticks.

    Args:
        axes: with one unit of height per row.
        names: of the rows, from above.
        left: margin of the axes in pixels.
    """
    width = 72 * axes.figure.get_size_inches()[0]  # type: ignore[union-attr] # axes have a figure
    axes.set_yticks([])
    inside = axes.get_position().width * width
    for row, name in enumerate(names):
        spot = -min(6.0, left) / inside
        axes.text(
            spot, row, plain(name, 60), transform=axes.get_yaxis_transform(), ha="right", va="center_baseline"
        )  # fmt: skip


def text_width(text: str, size: float = FONT_PX) -> float:
    """Return about how many pixels a text takes."""
    return len(text) * _CHARACTER * size


def plain(text: str, limit: int = 200) -> str:
    """Return a text that is safe in any file."""
    return printable(text, limit)


def grid(axes: Axes, axis: str = "x") -> None:
    """Draw faint lines."""
    axes.grid(axis=axis, color=FAINT, linewidth=0.8)  # type: ignore[arg-type] # a plain str


def rendered(draw: Draw) -> Drawing:
    """Draw with the settings of all charts."""
    import matplotlib

    with matplotlib.rc_context(settings()):  # type: ignore[arg-type] # keys are literals there
        return draw()


def figure_bytes(draw: Draw, kind: str) -> bytes:
    """Return a chart as a file for papers: white background, glyphs as shapes, no dates.

    Args:
        draw: draws it.
        kind: "svg", "pdf" or "png".
    """
    import matplotlib

    buffer = io.BytesIO()
    metadata: dict[str, None] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    changes = settings() | {"svg.fonttype": "path", "savefig.dpi": 144 if kind == "png" else 72}
    with matplotlib.rc_context(changes):  # type: ignore[arg-type] # keys are literals there
        draw().figure.savefig(buffer, format=kind, metadata=metadata, facecolor="white")
    return buffer.getvalue()


def inline_svg(draw: Draw, key: str, alt: str) -> str:
    """Return a chart as SVG for a page with a strict policy: no style attributes, ids of its own, the page's ink.

    Args:
        draw: draws it.
        key: unlike that of any other chart of the page.
        alt: what it shows, for those who do not see it.
    """
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(settings()):  # type: ignore[arg-type] # keys are literals there
        drawing = draw()
        drawing.figure.patch.set_visible(False)
        for axes in drawing.figure.axes:
            axes.patch.set_visible(False)
        drawing.figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_METADATA))
    width, height = (72 * inches for inches in drawing.figure.get_size_inches())
    root = Xml.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib's own
    _clean(root, key, drawing.tips)
    root.attrib.clear()
    root.set("viewBox", f"0 0 {width:g} {height:g}")
    root.set("width", f"{width:g}")
    root.set("height", f"{height:g}")
    root.set("role", "img")
    root.set("aria-label", plain(alt, 400))
    root.set("font-family", "DejaVu Sans, Verdana, sans-serif")
    root.set("stroke-linejoin", "round")
    Xml.register_namespace("", _SVG)
    Xml.register_namespace("xlink", _XLINK)
    return Xml.tostring(root, encoding="unicode", short_empty_elements=True)


_METADATA = ("Date", "Creator", "Format", "Type")


def _clean(root: Xml.Element, key: str, tips: Sequence[str]) -> None:
    """Turn styles into attributes, keep only ids that are used, and put texts on marks."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style") or (
                child.tag == f"{{{_SVG}}}defs" and (not len(child) or child[0].tag == f"{{{_SVG}}}clipPath")
            ):
                parent.remove(child)
    used = _used_ids(root)
    for element in list(root.iter()):
        style = element.attrib.pop("style", "")
        for name, value in _declarations(style):
            element.set(name, value)
        name = element.attrib.pop("id", "")
        if name in used:
            element.set("id", f"{key}-{name}")
        if name.startswith("tip-"):
            title = Xml.Element(f"{{{_SVG}}}title")
            title.text = plain(tips[int(name[4:])], 400)
            element.insert(0, title)
        _shorten(element, key)
        _theme(element)
    _unwrap(root)


def _used_ids(root: Xml.Element) -> set[str]:
    """Return the ids that something refers to."""
    return {
        match
        for element in root.iter()
        for value in element.attrib.values()
        for match in re.findall(r"^#([\w-]+)$|url\(#([\w-]+)\)", value)
        for match in match
        if match
    }


def _shorten(element: Xml.Element, key: str) -> None:
    """Give references the key of their chart, numbers two decimals, and drop what the page says or nobody sees."""
    for name in ("clip-path", "font-family"):  # nothing is drawn outside of its axes; the page has one font
        element.attrib.pop(name, None)
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for name, value in list(element.attrib.items()):
        if name == f"{{{_XLINK}}}href":
            element.set(name, f"#{key}-{value[1:]}")
        elif name in ("d", "x", "y", "points", "transform"):
            element.set(name, " ".join(re.sub(r"-?\d+\.\d+", _rounded, value).split()))


def _rounded(match: re.Match[str]) -> str:
    """Return a number with at most two decimals."""
    return f"{float(match.group()):.2f}".rstrip("0").rstrip(".")


def _declarations(style: str) -> list[tuple[str, str]]:
    """Split a style into attributes; the shorthand of fonts becomes a size, a weight and nothing else."""
    found = []
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            found.append(("font-size", size.group(1) if size else f"{FONT_PX:g}"))
            if "bold" in value or re.search(r"\b[67]00\b", value):
                found.append(("font-weight", "bold"))
        elif _PRESENTATION.fullmatch(name) and name not in ("stroke-linejoin", "stroke-linecap", "stroke-miterlimit"):
            found.append((name, value))
    return found


def _theme(element: Xml.Element) -> None:
    """Let ink and grid follow the colour of the page's text."""
    for paint in ("fill", "stroke"):
        value = element.get(paint, "").lower()
        if value in (INK, FAINT):
            element.set(paint, "currentColor")
            if value == FAINT:
                element.set(f"{paint}-opacity", "0.16")
    if element.tag == f"{{{_SVG}}}text" and "fill" not in element.attrib:
        element.set("fill", "currentColor")


def _unwrap(root: Xml.Element) -> None:
    """Replace groups without attributes by what is in them; the text of a group of one mark moves into the mark."""
    waiting = [root]
    while waiting:
        parent = waiting.pop()
        kept: list[Xml.Element] = []
        for child in _unwrapped(parent):
            child.tail = None
            kept.append(child)
        parent[:] = kept
        waiting += kept
        if len(kept) and parent.tag not in (f"{{{_SVG}}}text", f"{{{_SVG}}}title"):
            parent.text = None


def _unwrapped(parent: Xml.Element) -> Iterator[Xml.Element]:
    """Yield the children of an element, in place of groups without attributes their own."""
    for child in parent:
        if child.tag != f"{{{_SVG}}}g" or child.attrib:
            yield child
            continue
        titled = len(child) > 1 and child[0].tag == f"{{{_SVG}}}title"
        if titled and len(child) > 2:
            yield child
            continue
        if titled:
            child[1].insert(0, child[0])
            del child[0]
        yield from _unwrapped(child)
