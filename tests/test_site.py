"""The web site (`make test-site` builds it first): links, weight, and in a browser what a reader would stumble over."""

import functools
import json
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import build_site
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SITE, AXE = ROOT / "build/site", ROOT / "build/axe-core"
NOT_BUILT = pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason="no site is built here; `make test-site` builds it"
)


def built(test):
    """A test of the built site."""
    return pytest.mark.browser(NOT_BUILT(test))


PHONE = 390
JUDGED = [
    "index.html",
    "glossary.html",
    "notebooks/21_poet_results.html",
    "notebooks/30_rtmo.html",
    "api/posekit.losses.poet.html",
]


def pages():
    found = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    return [page for page in found if not page.startswith("playground/")]  # it has tests of its own


class Page(HTMLParser):
    """Ids, links and images of a page, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded, self.images = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.update(filter(None, (given.get("id"), given.get("name") if tag == "a" else None)))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if tag == "link" and given.get("rel") not in ("stylesheet", "icon", "shortcut icon"):
            return
        loaded = given.get("src") or (given.get("href") if tag == "link" else None)
        if loaded:
            self.loaded.append(loaded)


@functools.cache
def read(page):
    return Page(SITE / page)


@built
def test_every_link_and_every_loaded_file_is_there():
    lost = []
    for page in pages():
        for url in [*read(page).links, *read(page).loaded]:
            parts = urlsplit(urljoin(f"http://site/{page}", url))
            if parts.netloc != "site" or parts.scheme not in ("http", ""):
                continue
            target = unquote(parts.path).lstrip("/") or "index.html"
            target += "index.html" if target.endswith("/") else ""
            known = (SITE / target).is_file()
            if known and parts.fragment and target.endswith(".html") and not target.startswith("playground/"):
                known = unquote(parts.fragment) in read(target).ids
            if not known:
                lost.append(f"{page}: {url}")
    assert lost == []


@built
def test_nothing_is_loaded_from_elsewhere():
    assert [f"{page}: {url}" for page in pages() for url in read(page).loaded if urlsplit(url).netloc] == []


@built
def test_every_image_has_alt_text():
    bare = [
        f"{page}: {image.get('src', '')[:80]}"
        for page in pages()
        for image in read(page).images
        if not image.get("alt")
    ]
    assert bare == []


@built
def test_pages_are_light():
    weights = build_site.weights()
    assert {page: size for page, size in weights.items() if size > build_site.LIMIT and page in pages()} == {}


@built
def test_every_notebook_is_in_the_contents_and_can_be_downloaded():
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    assert {f"notebooks/{name}.html" for name in names} <= set(read("index.html").links)
    assert all(f"{name}.ipynb" in read(f"notebooks/{name}.html").links for name in names)


@pytest.fixture(scope="module")
def address():
    """The site, served on this machine alone."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    chrome = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not chrome or not driver:
        pytest.skip("no Chromium with chromedriver on this machine: the site was not looked at in a browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    running.set_script_timeout(60)
    yield running
    running.quit()


def opened(browser, url, width=PHONE, scheme="light"):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(url)


# Formulas that MathJax is to set, those that it has set, and those that it could not read.
FORMULAS = """
const done = arguments[arguments.length - 1];
const wanted = document.querySelectorAll(".math").length;
const count = () => done([wanted, document.querySelectorAll("mjx-container").length,
                          document.querySelectorAll("mjx-merror, [data-mjx-error]").length]);
if (!wanted) count();
else if (!window.MathJax || !MathJax.startup) done([wanted, 0, 0]);
else MathJax.startup.promise.then(count);
"""


@built
def test_on_a_phone_no_page_scrolls_sideways_complains_or_asks_the_network(browser, address):
    wide, complaints, asked, unset = [], [], set(), []
    for page in pages():
        opened(browser, address + page)
        wanted, done, failed = browser.execute_async_script(FORMULAS)
        if done < wanted or failed:
            unset.append(f"{page}: {done} of {wanted} formulas set, {failed} not understood")
        across = browser.execute_script("return document.documentElement.scrollWidth")
        if across > PHONE:
            wide.append(f"{page}: {across}")
        complaints += [
            f"{page}: {entry['message']}" for entry in browser.get_log("browser") if entry["level"] == "SEVERE"
        ]
        for entry in browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.add(urlsplit(message["params"]["request"]["url"]))
    assert (wide, complaints, unset) == ([], [], [])
    away = {
        url.geturl() for url in asked if url.scheme not in ("data", "blob", "chrome") and url.hostname != "127.0.0.1"
    }
    assert away == set()


@built
def test_the_search_finds_a_word_of_the_notebooks(browser, address):
    from selenium.webdriver.support.ui import WebDriverWait

    opened(browser, f"{address}search.html?q=SimOTA", 1200)
    found = "return document.querySelectorAll('#search-results li a').length"
    WebDriverWait(browser, 20).until(lambda it: it.execute_script(found))


@pytest.fixture(scope="module")
def axe():
    """The source of axe-core, which `npm pack` fetches once into build/axe-core."""
    source = AXE / "package/axe.min.js"
    if not source.is_file():
        from playground import npm

        AXE.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run([*npm(), "pack", "--silent", "axe-core@4"], cwd=AXE, check=True, timeout=120)
            shutil.unpack_archive(next(AXE.glob("*.tgz")), AXE, filter="data")
        except (SystemExit, OSError, subprocess.SubprocessError, StopIteration) as error:
            pytest.skip(f"axe-core could not be fetched ({error}): accessibility was not checked")
    return source.read_text(encoding="utf-8")


@built
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_of_accessibility(browser, address, axe, scheme):
    faults = []
    for page in JUDGED:
        opened(browser, address + page, 1200, scheme)
        browser.execute_async_script(FORMULAS)
        browser.execute_script(axe)
        found = browser.execute_async_script("axe.run(document).then(arguments[0])")["violations"]
        faults += [
            f"{page}: {one['id']}, {len(one['nodes'])} times: {one['nodes'][0]['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
    assert faults == []


def page_with(*cells):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title\n\nText."), *cells])


def test_pages_get_alt_text_a_scrolling_table_and_the_anchors_of_the_site():
    alt = "POET, Figure 8: AP read out after each decoder layer"
    picture = nbformat.v4.new_output("display_data", {"image/png": ""}, metadata={"image/png": {"alt": alt}})
    table = nbformat.v4.new_output("display_data", {"text/html": "<table></table>"})
    book = page_with(
        nbformat.v4.new_markdown_cell("## Every layer: *learns*\n[x](20_poet.ipynb#Every-layer-learns)"),
        nbformat.v4.new_code_cell("x", outputs=[picture]),
        nbformat.v4.new_code_cell("y", outputs=[table]),
    )
    assert build_site.places(book) == {"poet_fig08_decoder_depth": "every-layer-learns"}
    made = build_site.prepared(book, "20_poet").cells
    assert made[0].source.startswith("# Title\n\n<p") and made[0].source.endswith("Text.")
    assert made[1].source.endswith("](20_poet.ipynb#every-layer-learns)")
    assert made[2].metadata.mystnb == {"image": {"alt": alt}}
    assert made[3].outputs[0].data["text/html"].startswith('<div class="scroll"')


def test_every_notebook_has_its_place_in_the_contents():
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    lines = build_site.contents([*names, "60_playground"]).splitlines()
    listed = [line.removeprefix("notebooks/") for line in lines if line.startswith("notebooks/")]
    assert sorted(listed) == [*names, "60_playground"]
