"""The look of every figure, fixed once: sizes in inches, fonts, one colour per model, and saving with repeatable bytes.

Figures are made without pyplot, so nothing is global: a function decorated with `styled` builds a `Figure`, `save`
writes it as `stem.svg`, `stem.png` and `stem.csv` (the plotted data), `as_image` shows it in a notebook.
"""

from __future__ import annotations

import base64
import functools
import io
import re
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from posebook.catalogue import alt_text
from posebook.pictures import jpeg
from posebook.tables import NOT_RUN, write_files

SINGLE, DOUBLE = 3.4, 7.0  # inches: one column and two columns of a printed page
DPI = 160
FOOTER_POINTS = 4.6
RC = matplotlib.rc_params_from_file(Path(__file__).with_name("book.mplstyle"), use_default_template=False)

# Okabe and Ito's colour-blind safe set: one hue per family, darker and lighter within a family.
MODEL_COLOURS = {
    "poet_tiny": "#0072B2",
    "poet_tiny_proposals": "#56B4E9",
    "poet_r50": "#00517F",
    "poet_dc5_r50": "#002F4A",
    "rtmo": "#D55E00",
    "vitpose": "#009E73",
    "mae": "#005C43",
    "ae": "#CC79A7",
    "ae_hrnet": "#8B3A62",
    "openpose": "#000000",
    "simple_baseline": "#E69F00",
    "mask_rcnn": "#8A5F00",
    "yolox": "#7F7F7F",
    "rtmpose": "#6A51A3",
}
MODEL_LABELS = {
    "poet_tiny": "poet_tiny (learned queries)",
    "poet_tiny_proposals": "extension: queries chosen from the encoder",
    "poet_r50": "POET-R50",
    "poet_dc5_r50": "POET-DC5-R50",
    "simple_baseline_r50": "SimpleBaseline-R50, boxes given",
    "simple_baseline_r50_loop": "SimpleBaseline-R50, crop by crop",
    "mask_rcnn_simple_baseline_r50": "Mask R-CNN + SimpleBaseline-R50",
    "ae_r50_stride4": "AE+R50",
    "ae_r50_stride4_fast": "AE+R50, fast grouping",
    "ae_hrnet_w32": "AE+HRNet-W32",
    "openpose_coco": "OpenPose",
    **{f"rtmo_{size}": f"RTMO-{size}" for size in "tsml"},
    **{f"yolox_pose_{size}": f"YOLOX-Pose-{size}" for size in "tsml"},
    **{f"rtmpose_{size}": f"RTMPose-{size} + RTMDet-nano" for size in "tsml"},
}
TRUTH = "#D55E00"  # ground truth beside predictions
GREY = "#6E6E6E"


def colour(model: str) -> str:
    """The colour of a model: of the longest `MODEL_COLOURS` name that it starts with (rtmo_s -> rtmo)."""
    known = [name for name in MODEL_COLOURS if model == name or model.startswith(name + "_")]
    if not known:
        raise ValueError(f"model {model!r} has no colour; add it to MODEL_COLOURS in posebook/figures/style.py")
    return MODEL_COLOURS[max(known, key=len)]


def label(model: str) -> str:
    """The name of a model for readers."""
    return MODEL_LABELS.get(model, model)


def styled(function):
    """Decorator: run a figure function with the house's settings, whatever matplotlib is set to."""

    @functools.wraps(function)
    def drawn(*args, **kwargs):
        with matplotlib.rc_context(RC):
            return function(*args, **kwargs)

    return drawn


def figure(width: float = DOUBLE, height: float = 2.6) -> Figure:
    """An empty figure of `width` x `height` inches with a constrained layout, unknown to pyplot."""
    fig = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def direct_labels(ax, entries: list[tuple], gap_points: float = 9.0, size: float = 7.0) -> None:
    """Write line labels at the right edge of `ax`, pushed apart so that none overlaps.

    entries: (y in data units, text, colour) per line, y at the line's right end. Set the axis limits first.
    """
    height = ax.figure.get_size_inches()[1] * 72 * ax.get_position().height
    gap = gap_points / max(height, 1.0)
    to_axes = ax.transData + ax.transAxes.inverted()
    x_right = ax.get_xlim()[1]
    order = sorted(entries, key=lambda entry: entry[0])
    wanted = [float(np.clip(to_axes.transform((x_right, y))[1], 0, 1)) for y, *_ in order]
    placed = list(wanted)
    for _ in range(200):
        for i in range(1, len(placed)):
            short = gap - (placed[i] - placed[i - 1])
            if short > 1e-9:
                placed[i - 1], placed[i] = placed[i - 1] - short / 2, placed[i] + short / 2
        placed[:1] = [max(y, 0.0) for y in placed[:1]]
    for (_, text, ink), at, y in zip(order, wanted, placed, strict=True):
        look = {"color": ink, "fontsize": size, "va": "center", "ha": "left", "annotation_clip": False}
        look["arrowprops"] = {"arrowstyle": "-", "lw": 0.5, "color": ink, "shrinkA": 1, "shrinkB": 0}
        ax.annotate(text, (1.0, at), (1.04, y), "axes fraction", "axes fraction", **look)


def point_names(ax, names: list[tuple], x: float, gap: float, lowest: float = -np.inf) -> None:
    """Names of points at `x`, in data units, each with a thin line to its point; near ones stand `gap` apart.

    names: (x, y, text, colour) per point.
    """
    height = -np.inf
    for at, y, text, ink in sorted(names, key=lambda name: name[1]):
        height = max(height + gap, y, lowest)
        line = {"arrowstyle": "-", "lw": 0.4, "color": ink, "shrinkA": 1, "shrinkB": 4}
        ax.annotate(text, (at, y), (x, height), fontsize=6, color=ink, va="center", arrowprops=line)


def beside(ax, point, offset: tuple[float, float], words: str, **look) -> None:
    """Text `offset` points from a point in data units."""
    ax.annotate(words, point, offset, textcoords="offset points", **look)


def inside(ax, x: float, y: float, words: str, **look) -> None:
    """Small text, grey unless told otherwise, at a place of the axes from 0 to 1."""
    ax.text(x, y, words, transform=ax.transAxes, **{"color": GREY, "fontsize": 6} | look)


def panel(ax, letter: str, title: str = "") -> None:
    """Letter (bold) and title of one panel."""
    ax.set_title(f"$\\bf{{{letter}}}$  {title}", loc="left")


def title(fig, letter: str, words: str, x: float = 0.02) -> None:
    """Letter and title of a (sub)figure with several axes."""
    note(fig, f"$\\bf{{{letter}}}$  {words}", 8, "black", x)


def note(fig, words: str, size: float = 6, colour: str = GREY, x: float = 0.01) -> None:
    """A line above a figure: what is shown, and of which data."""
    fig.suptitle(words, fontsize=size, color=colour, x=x, ha="left")


def corner(fig, words: str) -> None:
    """Small grey words in the upper right corner, outside of the layout."""
    fig.text(0.995, 0.995, words, ha="right", va="top", fontsize=6, color=GREY).set_in_layout(False)


def not_run(ax, height: float = 0.5) -> None:
    """Say in empty axes that nobody has run what they would show."""
    inside(ax, 0.5, height, NOT_RUN, ha="center", fontsize=RC["font.size"])


def joint_name(name: str) -> str:
    """ "left_knee" -> "left knee"."""
    return name.replace("_", " ")


def whole_ticks(ax) -> None:
    """Only whole numbers on the x axis."""
    ax.xaxis.get_major_locator().set_params(integer=True)


def plain_log(axis) -> None:
    """Plain numbers at 1, 2 and 5 of each decade of a logarithmic axis; within one decade at more of them."""
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high > 10 * low else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=30))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def bare(ax) -> None:
    """No grid and no frame."""
    ax.grid(False)
    ax.spines[:].set_visible(False)


def save(fig: Figure, stem: str, data, folder: str | Path, footer: str = "") -> list[Path]:
    """Write `stem.svg`, `stem.png` and `stem.csv` into `folder`; the same input gives the same bytes.

    Opaque images inside the SVG become JPEG.

    Args: data: pandas.DataFrame with all that is plotted. footer: the provenance line, in a strip below the figure.

    Returns: the three paths. The figure is labelled with its stem, from which `as_image` knows its caption.
    """
    if not re.fullmatch(r"[a-z0-9_]+", stem):
        raise ValueError(f"figure stem {stem!r}: use small letters, digits and underscores")
    fig.set_label(stem)
    with matplotlib.rc_context(RC):
        svg, png = _render(fig, footer)
    table = data.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
    return write_files(folder, stem, {"svg": svg, "png": png, "csv": table})


def as_image(fig: Figure, dpi: int = 110):
    """The figure as an IPython image for a notebook, with its alt text: PNG, or JPEG where that is smaller."""
    from IPython.display import Image

    with matplotlib.rc_context(RC):
        png = _bytes(fig, "png", dpi=dpi, metadata={"Software": None})
    small = jpeg(png, 88)
    sharp = len(png) < max(30_000, 1.2 * len(small))  # lines and text stay PNG
    return Image(data=png if sharp else small, format="png" if sharp else "jpeg", alt=alt_text(fig))


def _render(fig: Figure, footer: str) -> tuple[bytes, bytes]:
    """(svg, png) with the footer in a strip of its own; the figure is as before afterwards."""
    width, height = fig.get_size_inches()
    lines = textwrap.wrap(footer, int(width * 72 / (FOOTER_POINTS * 0.5)))
    strip = (len(lines) * FOOTER_POINTS * 1.25 + 4) / 72 if lines else 0.0
    look = {"fontsize": FOOTER_POINTS, "color": GREY, "va": "bottom", "linespacing": 1.15}
    written = fig.text(0.04 / width, (2 / 72 - strip) / height, "\n".join(lines), **look)
    written.set_in_layout(False)
    engine = fig.get_layout_engine()
    try:
        fig.draw_without_rendering()
        fig.set_layout_engine("none")
        _settle(fig)
        page = {"dpi": DPI, "bbox_inches": Bbox([[0, -strip], [width, height]]), "pad_inches": 0}
        svg = _bytes(fig, "svg", metadata={"Date": None, "Creator": "posekit"}, **page)
        png = _bytes(fig, "png", metadata={"Software": None}, **page)
    finally:
        fig.set_layout_engine(engine)
        written.remove()
    return _light_svg(svg), _light_png(png)


def _settle(fig) -> None:
    """Round what the layout solver placed: its last bits change from process to process, and names inside an
    SVG are made from exact coordinates.
    """
    for part in fig.subfigs:
        box = part.bbox_relative
        box.p0, box.p1 = box.p0.round(6), box.p1.round(6)
        _settle(part)
    for ax in fig.axes:
        if ax.get_axes_locator() is None:
            ax.set_position(Bbox(ax.get_position(original=True).get_points().round(6)))
            ax.set_in_layout(True)  # set_position takes the axes out of later layouts
    for text in fig.texts:
        text.set_position(np.round(text.get_position(), 6))


def _bytes(fig: Figure, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


def _light_svg(svg: bytes) -> bytes:
    """Opaque PNG images inside an SVG turned into JPEG where that is smaller."""
    from PIL import Image

    def smaller(match):
        png = base64.b64decode(match[1])
        picture = Image.open(io.BytesIO(png))
        if picture.mode == "RGBA" and picture.getextrema()[3][0] < 255:
            return match[0]
        small = jpeg(png, 82)
        return b"data:image/jpeg;base64," + base64.b64encode(small) if len(small) < len(png) else match[0]

    return re.sub(rb"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", smaller, svg)


def _light_png(png: bytes) -> bytes:
    """Without the alpha channel, which is opaque, and packed as tightly as PNG can: all colours stay."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
