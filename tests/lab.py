"""JupyterLab in headless Chromium, for tests that press keys as a reader does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

BINARIES = {"chromium": ("chromium", "chromium-browser", "google-chrome"), "chromedriver": ("chromedriver",)}
TOKEN = "of-a-test"
# JupyterLab 4 in a browser without focus has no current widget until one is activated
NOTEBOOK = "const book = [...(window.jupyterapp?.shell.widgets('main') ?? [])].find(one => one.context); "
READY = NOTEBOOK + "return Boolean(book?.context.isReady)"
IDLE = NOTEBOOK + "return book.sessionContext.session?.kernel?.status === 'idle'"
RUN_ALL = (
    NOTEBOOK + "const done = arguments[0]; window.jupyterapp.shell.activateById(book.id); "
    "window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => done(''), error => done(String(error)))"
)


def missing() -> str:
    """Why no browser can be driven here, "" if one can."""
    lacks = [name for name, known in BINARIES.items() if not any(map(shutil.which, known))]
    if lacks:
        return f"{' and '.join(lacks)} not found: apt-get install chromium chromium-driver"
    try:
        import jupyterlab  # noqa: F401
        import selenium  # noqa: F401
    except ImportError as error:
        return f"{error.name} is not installed"
    return ""


def until(found, seconds: float = 240, what: str = ""):
    """What `found()` returns once it is neither None, False nor empty; asked again and again."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what or found}"
        time.sleep(0.2)
    return value


@contextmanager
def lab(folder: Path):
    """A selenium driver and the address of JupyterLab in `folder`, with settings of its own: (driver, address)."""
    own = {f"JUPYTER_{name}_DIR": str(folder / ".jupyter" / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={TOKEN}", "--ServerApp.port=0"]
    options += ["--ServerApp.port_retries=0", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | own, cwd=folder)
    try:
        files = Path(own["JUPYTER_RUNTIME_DIR"])
        record = until(lambda: next(files.glob("jpserver-*.json"), None), what="JupyterLab's server")
        address = json.loads(until(record.read_text))["url"]
        driver = chromium(folder)
        try:
            yield driver, address
        finally:
            driver.quit()
    finally:
        server.terminate()
        server.wait(60)


def chromium(folder: Path):
    """A headless browser with a profile in `folder`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BINARIES["chromium"])))
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.add_argument("--window-size=1300,1500")
    options.add_argument(f"--user-data-dir={folder / 'chromium'}")
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    driver.set_script_timeout(600)
    return driver


def run_all(driver, address: str, notebook: str) -> None:
    """Opens a notebook of the folder and runs all cells; returns when the kernel is idle again."""
    driver.get(f"{address}lab/tree/{notebook}?token={TOKEN}")
    until(lambda: driver.execute_script(READY), what="the notebook")
    until(lambda: driver.execute_script(IDLE), what="the kernel")
    failed = driver.execute_async_script(RUN_ALL)
    assert not failed, failed
    until(lambda: driver.execute_script(IDLE), 600, "the last cell")


def scrolled_to(driver, element):
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return element
