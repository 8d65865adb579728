"""Sphinx's settings for the web site of the book; `make site` (ci/build_site.py) stages its pages and builds them."""

import re

from docutils import nodes

from posebook import catalogue

project, author, language = "posekit", "posekit contributors", "en"
copyright = "posekit contributors, MIT licence"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax lies in the site: formulas need no network
]
exclude_patterns = ["generated", "extra"]
templates_path = ["_templates"]

# Notebooks: shown as they were committed, never run.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
nb_render_markdown_format = "myst"  # tables in outputs
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]

# API: docstrings are Google's form with Markdown's `code`.
default_role = "py:obj"
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "posekit"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_favicon = "_static/favicon.svg"
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it would fetch pages, which a browser refuses where they are files
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"


def link_figures(app, doctree, docname):
    """A figure of the catalogue opens its drawing, which can be enlarged without loss."""
    stems = {
        catalogue.caption(row.stem): row.stem for row in catalogue.entries().query("kind == 'figure'").itertuples()
    }
    for image in list(doctree.findall(nodes.image)) if docname.startswith("notebooks/") else []:
        if image.get("alt") in stems:
            link = nodes.reference("", "", refuri=f"../figures/{stems[image['alt']]}.svg", internal=True)
            image.replace_self(link)
            link += image


ITEM, SECTION = r"\s*([-*]|\d+\.) ", r"(Args|Raises|Returns|Yields|Attributes):"


def from_markdown(app, what, name, obj, options, lines):
    """Docstrings are Markdown: an indented block is code, a list needs no empty line around it, a bar is a bar."""
    text, listed, code = [], False, False
    for i, line in enumerate(lines):
        last, item = text[-1] if text else "", bool(re.match(ITEM, line))
        code = code and not re.match(r"\S", line)
        if last.strip() and line.strip() and item != listed and not (code or listed and line.startswith(" ")):
            text.append("")
        listed = not code and (item or (listed and line.startswith(" ")))
        text.append(line if code else line.replace("|", r"\|"))
        follows = lines[i + 1] if i + 1 < len(lines) else ""
        if re.match(r"\S", last) and not line.strip() and re.match(r" {4}\S", follows) and not re.match(SECTION, last):
            text += ["::", ""]
            code = True
    lines[:] = text


def accessible(app, pagename, templatename, context, doctree):
    """The captions of the side bar are headings of a level, and a fold is called what is written on it."""
    for part in ("body", "furo_navigation_tree"):
        html = context.get(part) or ""
        html = html.replace('class="caption" role="heading"', 'class="caption" role="heading" aria-level="2"')
        context[part] = html.replace('<summary aria-label="Toggle hidden content">', "<summary>")


def setup(app):
    app.connect("html-page-context", accessible, priority=900)  # after the theme
    app.connect("doctree-resolved", link_figures)
    app.connect("autodoc-process-docstring", from_markdown, priority=400)  # before napoleon
