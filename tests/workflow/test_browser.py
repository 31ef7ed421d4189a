"""What a person sees, in a real browser: MLflow's runs table, an ablation's comparison, curves and figures of runs, and the report.

With TVTS_SHOW=FOLDER the pages are those of FOLDER/results, and docs/images gets the pictures: `make screenshots`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import answers, free_ports, wait_for
from tests.workflow.conftest import SMALL
from tests.workflow.snake import ROOT, snakemake

selenium = pytest.importorskip("selenium")

from selenium.common.exceptions import (  # noqa: E402
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver import Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1500,1000",
)  # fmt: skip
CLOSE_ASSISTANT = "document.querySelector(\"[data-component-id='mlflow.assistant.chat_panel.close']\")?.click()"
SECONDS = 300
BROWSER = shutil.which("chromium") and shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("end to end"),
    pytest.mark.skipif(
        not BROWSER and not os.environ.get("REQUIRE_BROWSER"),
        reason="no Chromium: apt-get install chromium chromium-driver",
    ),
]
REDRAWN = (NoSuchElementException, StaleElementReferenceException, ElementClickInterceptedException)


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    """A folder with a finished workflow in `results`."""
    shown = os.environ.get("TVTS_SHOW")
    return Path(shown).resolve() if shown else request.getfixturevalue("finished")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """Address of MLflow's UI on the folder's store, as `make mlflow` starts it."""
    port = free_ports(1)[0]
    address = f"http://127.0.0.1:{port}"
    command = ["--backend-store-uri", f"sqlite:///{folder}/results/mlflow.db", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )  # fmt: skip
    try:
        wait_for("MLflow's UI", lambda: answers(address))
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.fixture
def show(browser: Chrome, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Save a picture of the page: for the docs when asked to, else to look at when the test fails."""

    def save(name: str) -> None:
        browser.execute_script(CLOSE_ASSISTANT)
        time.sleep(1)  # for what still moves on the page
        place = ROOT / "docs/images" if os.environ.get("TVTS_SHOW") else tmp_path
        browser.save_screenshot(str(place / f"{name}.png"))

    yield save


@pytest.fixture
def tracked(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results/mlflow.json").read_text(encoding="utf-8"))


def wait(browser: Chrome, found: Callable[[Chrome], Any]) -> Any:
    """What `found` finds once the page has it; pages redraw what they show while one looks."""
    return WebDriverWait(browser, SECONDS, ignored_exceptions=REDRAWN).until(found)


def click(page: Chrome, by: str, where: str) -> bool:
    page.find_element(by, where).click()
    return True


def text(browser: Chrome, *expected: str) -> str:
    """The page's text once it holds all that is expected."""

    def whole(page: Chrome) -> str | None:
        said = page.find_element(By.TAG_NAME, "body").text
        return said if all(part in said for part in expected) else None

    return str(wait(browser, whole))


def picture(browser: Chrome, selector: str) -> WebElement:
    """An image once it is drawn."""

    def drawn(page: Chrome) -> WebElement | None:
        images = page.find_elements(By.CSS_SELECTOR, selector)
        return next((image for image in images if int(image.get_property("naturalWidth") or 0) > 300), None)

    return wait(browser, drawn)


def runs(server: str, tracked: dict[str, Any], run: str = "", tab: str = "") -> str:
    return (
        f"{server}/#/experiments/{tracked['experiment_id']}/runs{run and '/' + run}{tab}?workflowType=machine_learning"
    )


def ablation(folder: Path) -> str:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/results/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`tvts.kind` = 'ablation'")
    return str(parent.info.run_id)


def test_the_table_of_runs(browser: Chrome, server: str, tracked: dict[str, Any], show: Callable[[str], None]) -> None:
    browser.get(runs(server, tracked))
    text(browser, "ablation freeze_depth", "clip-tiny", "one run per training")
    browser.execute_script(CLOSE_ASSISTANT)
    for name in ("ablation freeze_depth", "clip-tiny"):
        cell = f"//a[normalize-space()='{name}']/ancestor::*[@role='gridcell'][1]"
        wait(browser, lambda page, button=f"{cell}//button": click(page, By.XPATH, button))
    text(browser, "demo", "demo-freeze_depth-all-seed0", "clip-tiny motions retrieval")
    show("mlflow_runs")


def test_an_ablation_is_compared_by_one_click(
    browser: Chrome, server: str, tracked: dict[str, Any], folder: Path, show: Callable[[str], None]
) -> None:
    browser.get(runs(server, tracked, ablation(folder)))
    text(browser, "frozen text", "varied on run")
    show("mlflow_ablation")
    before = set(browser.window_handles)
    wait(browser, lambda page: click(page, By.LINK_TEXT, "Compare its members"))
    (opened,) = wait(browser, lambda page: set(page.window_handles) - before)
    browser.switch_to.window(opened)
    said = text(browser, "Comparing", "Run details", "demo-freeze_depth-all-seed0")
    assert "text.frozen_blocks" in said
    show("mlflow_compare")


def test_curves_and_figures_of_a_run(
    browser: Chrome, server: str, tracked: dict[str, Any], folder: Path, show: Callable[[str], None]
) -> None:
    browser.get(runs(server, tracked, tracked["links"]["demo"], "/model-metrics"))
    text(browser, "motions/linear_probe", "top1")
    wait(browser, lambda page: page.find_element(By.CSS_SELECTOR, "input[placeholder^='Search metric']")).send_keys(
        "sorting|loss"
    )
    text(browser, "loss", "val_sorting")
    wait(browser, lambda page: page.find_element(By.CSS_SELECTOR, ".js-plotly-plot .scatterlayer .trace"))
    show("mlflow_curves")
    browser.get(runs(server, tracked, ablation(folder), "/artifacts/figures/ablation_freeze_depth.png"))
    picture(browser, "img[src*='figures'], img[src^='blob:']")


def test_every_number_of_the_results_page_leads_to_its_run(
    browser: Chrome, server: str, folder: Path, show: Callable[[str], None]
) -> None:
    browser.get((folder / "results/report/results.html").as_uri())
    links = browser.find_elements(By.CSS_SELECTOR, "tbody td:not(:first-child) a")
    numbers = [
        cell for cell in browser.find_elements(By.CSS_SELECTOR, "tbody td:not(:first-child)") if cell.text != "not run"
    ]
    assert len(links) == len(numbers) > 10
    show("results_page")
    demo = browser.find_element(By.XPATH, "//tr[td/a[text()='demo']]")
    leads = str(demo.find_elements(By.TAG_NAME, "a")[1].get_attribute("href"))
    browser.get(leads.replace("http://127.0.0.1:5000", server))
    text(browser, "demo motions retrieval", "t2v_R1")


def test_the_report(browser: Chrome, folder: Path, tmp_path: Path, show: Callable[[str], None]) -> None:
    page = folder / "results/report/report.html"
    if not page.exists():
        snakemake(folder, "--report", str(page), overlay=SMALL)
    browser.get(page.as_uri())
    text(browser, "Ablations", "Training", "Results")
    show("report")
    wait(browser, lambda page: click(page, By.XPATH, "//*[text()='Ablations']"))
    text(browser, "freeze_depth")
