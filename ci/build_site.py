"""The web site of the book, in build/site, from the committed notebooks: `python ci/build_site.py`. Nothing is run.

Staged in build/site-source, then built by Sphinx: the pages of site/, the notebooks with what the builder needs to know
(alt text, scrolling tables), the gallery and the list of figures from `posebook.catalogue`, and as plain files the
figures, the notebooks, and build/playground where `make playground` has made it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path

import nbformat
from docutils.nodes import make_id
from PIL import Image

from posebook import catalogue
from posekit.files import write_bytes

ROOT = Path(__file__).parents[1]
SOURCE, SITE = ROOT / "build/site-source", ROOT / "build/site"
THUMBNAIL, LIMIT = (520, 360), 3_000_000  # pixels; bytes of a page with its images
PARTS = {
    "Start here": "0?_*",
    "POET": "2?_*",
    "RTMO": "3?_*",
    "ViTPose": "4?_*",
    "All three, side by side": "[5-9]?_*",
    "Workers: what trains and measures": "1?_*",
}


def stage() -> None:
    """Everything that Sphinx reads, in `SOURCE`. Unchanged files stay untouched, so that a second build is short."""
    for path in (path for path in (ROOT / "site").rglob("*") if path.is_file()):
        if "playground" not in path.parts:
            keep(SOURCE / path.relative_to(ROOT / "site"), path.read_bytes())
    books = {path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    for stale in set((SOURCE / "notebooks").glob("*.ipynb")) - {SOURCE / f"notebooks/{name}.ipynb" for name in books}:
        stale.unlink()
    anchors = {}
    for name, book in books.items():
        anchors |= {stem: f"notebooks/{name}.html#{anchor}" for stem, anchor in places(book).items()}
        keep(SOURCE / f"notebooks/{name}.ipynb", nbformat.writes(prepared(book, name)).encode())
        keep(SOURCE / f"extra/notebooks/{name}.ipynb", (ROOT / f"notebooks/{name}.ipynb").read_bytes())
    for path in (ROOT / catalogue.COMMITTED).glob("*.*"):
        keep(SOURCE / "extra/figures" / path.name, path.read_bytes())
    played = (ROOT / "build/playground/index.html").is_file()
    if played:
        shutil.copytree(ROOT / "build/playground", SOURCE / "extra/playground", dirs_exist_ok=True)
    play = "**Play.** [The playground](playground/index.html) runs the book's three small models in your browser."
    play = re.sub(r"\[(.*?)\]\((.*?)\)", r'<a href="\2">\1</a>', play)
    keep(SOURCE / "generated/playground.md", (play if played else "").encode() + b"\n")
    keep(SOURCE / "generated/gallery.md", gallery(anchors).encode())
    keep(SOURCE / "generated/contents.md", contents(list(books)).encode())
    keep(SOURCE / "figures.md", figures_page().encode())


def keep(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)


def prepared(book: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """A notebook as the builder wants it: alt text as a setting of the cell, tables in a box that scrolls, a line with
    the file below the title, anchors as the site writes them.
    """
    note = (
        f'<p class="page-note">This page is <code>notebooks/{name}.ipynb</code> of the repository: '
        f'<a href="{name}.ipynb" download>download</a>.</p>'
    )
    title, _, rest = book.cells[0].source.partition("\n")
    book.cells[0].source = f"{title}\n\n{note}\n{rest}"
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((\S*?)#(\S+?)\)", lambda m: f"]({m[1]}#{make_id(m[2])})", cell.source)
        for output in cell.get("outputs", []):
            for kind, about in output.get("metadata", {}).items():
                if kind.startswith("image/") and "alt" in about:
                    cell.metadata["mystnb"] = {"image": {"alt": about["alt"]}}
            data = output.get("data", {})
            if "<table" in data.get("text/html", ""):
                data["text/html"] = f'<div class="scroll">{data["text/html"]}</div>'
    return book


def places(book: nbformat.NotebookNode) -> dict[str, str]:
    """Stem -> anchor of the section that shows it, for the figures of a page."""
    found, anchor = {}, ""
    captions = {catalogue.caption(stem): stem for stem in catalogue.entries().stem}
    for cell in book.cells:
        if cell.cell_type == "markdown" and (heads := re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE)):
            anchor = make_id(re.sub(r"[`*$\\]", "", heads[-1]))
        for output in cell.get("outputs", []):
            alts = [about.get("alt") for about in output.get("metadata", {}).values()]
            found |= {captions[alt]: anchor for alt in alts if alt in captions}
    return found


def gallery(anchors: dict[str, str]) -> str:
    """The committed figures by paper: a small picture each, that opens the page which makes it."""
    figures = catalogue.entries().query("kind == 'figure'")
    heads = {"all": "All three, side by side", "book": "Introduction"}
    parts = []
    for paper, rows in figures.groupby("paper", sort=False):
        shown = [thumbnail(row, anchors) for row in rows.itertuples() if picture(row.stem).is_file()]
        parts += [f"### {heads.get(paper, paper)}", '```{raw} html\n<div class="gallery">', *shown, "</div>\n```", ""]
    return "\n".join(parts)


def picture(stem: str) -> Path:
    return ROOT / catalogue.COMMITTED / f"{stem}.png"


def thumbnail(row, anchors: dict[str, str]) -> str:
    target = SOURCE / f"extra/thumbnails/{row.stem}.png"
    if not target.is_file() or target.stat().st_mtime < picture(row.stem).stat().st_mtime:
        small = Image.open(picture(row.stem)).convert("RGB")
        small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
        target.parent.mkdir(parents=True, exist_ok=True)
        small.quantize(128).save(target, optimize=True)
    width, height = Image.open(target).size
    href = anchors.get(row.stem, f"notebooks/{row.notebook}.html")
    size = f'width="{width}" height="{height}" loading="lazy"'
    image = f'<img src="thumbnails/{row.stem}.png" alt="{escape(row.title)}" {size}>'
    words = f"<figcaption><b>{escape(row.number.capitalize())}</b>{escape(row.title)}</figcaption>"
    return f'<figure><a href="{href}">{image}{words}</a></figure>'


def contents(names: list[str]) -> str:
    """The tables of contents of the side bar, one per part of the book."""
    lines = []
    for part, pattern in PARTS.items():
        pages = [f"notebooks/{name}" for name in names if Path(name).match(pattern)]
        lines += [f"```{{toctree}}\n:hidden:\n:caption: {part}\n", *pages, "```\n"]
    return "\n".join([*lines, "```{toctree}\n:hidden:\n:caption: Reference\n\nfigures\nglossary\napi\n```\n"])


def figures_page() -> str:
    """All figures and tables; files are linked as files, since Sphinx would offer them as downloads."""
    table = re.sub(
        r"\[(\w+)\]\((figures/[\w.]+)\)", r'<a href="\2">\1</a>', catalogue.markdown("figures/", "notebooks")
    )
    words = "Which page makes which figure or table, its files, and the profile that the committed ones were made with."
    box = f":::{{container}} catalogue\n\n{table}\n:::\n"
    return f"# Figures and tables\n\n{words} A figure's footer names its run.\n\n{box}"


def weights() -> dict[str, int]:
    """Page -> bytes of the page and of the images in it, without what all pages share."""
    found = {}
    for page in sorted(SITE.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        images = {(page.parent / name).resolve() for name in re.findall(r'<img[^>]*? src="([^":]+)"', text)}
        found[str(page.relative_to(SITE))] = page.stat().st_size + sum(image.stat().st_size for image in images)
    return found


def main() -> int:
    stage()
    trees = ROOT / "build/site-doctrees"  # what is not to be published stays out of the site
    command = [sys.executable, "-m", "sphinx", "-q", "--keep-going", "-d", str(trees), str(SOURCE), str(SITE)]
    if status := subprocess.run(command, cwd=ROOT).returncode:
        return status
    heavy = sorted(
        ((size, page) for page, size in weights().items() if not page.startswith("playground")), reverse=True
    )
    print(
        f"{len(heavy)} pages in {SITE.relative_to(ROOT)}; the heaviest: "
        + ", ".join(f"{page} {size / 1e6:.2f} MB" for size, page in heavy[:3])
    )
    return int(heavy[0][0] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
