"""The page in a browser: with a mouse, on a phone, on paper."""

import json
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(programs):
        pytest.skip("chromium and chromedriver are not installed (Debian: apt-get install chromium-driver)")
    options = Options()
    options.binary_location = programs[0]
    for word in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}", "--window-size=1200,900",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()


def emulate_media(browser, media="", scheme="light"):
    """Set the medium and colour scheme, and switch off smooth scrolling so that clicks hit."""
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


@pytest.fixture
def browser(chromium, page):
    """Open the page; at the end, check that there are no browser messages and no outside requests."""
    emulate_media(chromium)
    chromium.get(page.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    requested = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    # "chrome" is the first page of the browser itself, which may still be loading.
    assert {url for url in requested if not url.startswith(("data:", "chrome"))} == {page.as_uri()}


def visible(browser, selector):
    return [element for element in browser.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def column(browser, number):
    return [
        float(cell.get_attribute("data-value"))
        for cell in browser.find_elements(By.CSS_SELECTOR, f".sortable tbody td:nth-child({number})")
    ]


def test_all_images_and_balances_are_shown(browser):
    assert browser.title.startswith("edgefilter report")
    assert all(browser.execute_script("return [...document.images].map(image => image.naturalWidth > 0)"))
    assert len(visible(browser, ".balance .right")) == 3
    assert len(visible(browser, "a.dot")) == 3
    assert len(visible(browser, "figure.pulse")) == 2


def test_a_heading_sorts_the_table_up_and_down(browser):
    assert column(browser, 1) == [1, 2, 3]
    dm = visible(browser, ".sortable th")[2]
    button = dm.find_element(By.TAG_NAME, "button")
    button.click()
    rising = column(browser, 3)
    assert rising == sorted(rising)
    assert dm.get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(browser, 3) == rising[::-1]
    assert dm.get_attribute("aria-sort") == "descending"
    assert len(browser.find_elements(By.CSS_SELECTOR, "th[aria-sort]")) == 1


@pytest.mark.parametrize("layer", ["flag-lost", "flag-kurtosis"])
def test_a_layer_is_switched_off_and_on(browser, layer):
    box = browser.find_element(By.CSS_SELECTOR, f".layers input[value='{layer}']")
    assert visible(browser, f".plot [data-layer='{layer}']")
    box.click()
    assert not visible(browser, f".plot [data-layer='{layer}']")
    box.click()
    assert visible(browser, f".plot [data-layer='{layer}']")


def test_the_waterfall_shows_power_or_its_change(browser):
    assert visible(browser, "img[data-layer='change']")
    assert not visible(browser, "img[data-layer='power']")
    browser.find_element(By.CSS_SELECTOR, ".layers input[value='power']").click()
    assert visible(browser, "img[data-layer='power']")
    assert not visible(browser, "img[data-layer='change']")


def test_weak_candidates_can_be_hidden(browser):
    snrs = column(browser, 2)
    least = browser.find_element(By.CSS_SELECTOR, ".least")
    least.clear()
    least.send_keys(str(max(snrs) - 0.01))
    assert len(visible(browser, "a.dot")) == 1
    assert len(visible(browser, ".sortable tbody tr")) == 1


def test_the_cursor_shows_time_and_frequency(browser):
    plot = browser.find_element(By.CSS_SELECTOR, ".waterfall .plot")
    browser.execute_script("arguments[0].scrollIntoView()", plot)
    webdriver.ActionChains(browser).move_to_element(plot).perform()
    cursor_text = browser.find_element(By.CSS_SELECTOR, ".cursor").text
    seconds, megahertz = (float(part.split()[0]) for part in cursor_text.split(","))
    low, high = map(float, plot.get_attribute("data-x").split(","))
    assert seconds == pytest.approx((low + high) / 2, rel=0.01)
    assert megahertz == pytest.approx(1300, abs=3)


def test_light_and_dark_follow_the_browser_and_the_button(browser):
    def background_colour():
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = background_colour()
    emulate_media(browser, scheme="dark")
    dark = background_colour()
    assert light == "rgb(255, 255, 255)" != dark
    browser.find_element(By.ID, "theme").click()
    assert background_colour() == light
    browser.find_element(By.ID, "theme").click()
    assert background_colour() == dark


def test_paper_has_no_buttons_and_a_white_background(browser):
    emulate_media(browser, media="print", scheme="dark")
    assert not visible(browser, ".control")
    assert not visible(browser, "#theme")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_phone_shows_the_page_without_sideways_scrolling(browser):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        assert len(visible(browser, "figure.pulse")) == 2
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
