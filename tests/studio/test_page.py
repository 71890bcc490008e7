"""common/studio/page: the page itself, in a real browser."""

import base64
import io
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from common.runtime.files import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """Chromium on the studio's page, told what to do by keys alone."""

    def __init__(self, url, downloads):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1400"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.get(url)

    def until(self, done, seconds=300):
        """Waits until done() is true, and returns what it was."""
        end = time.monotonic() + seconds
        while not (value := done()):
            assert time.monotonic() < end, f"not within {seconds} s; the page says: {self.text('status')}"
            time.sleep(0.05)
        return value

    def element(self, name):
        return self.driver.find_element("id", name)

    def text(self, name):
        return self.driver.execute_script("return document.getElementById(arguments[0])?.textContent", name)

    def number(self, name):
        return float(self.text(name))

    def picture(self, panel):
        return self.driver.execute_script("return document.getElementById(arguments[0]).toDataURL()", f"panel{panel}")

    def focused(self):
        return self.driver.switch_to.active_element

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, *where):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).click(self.driver.find_element(*where)).perform()

    def hold(self, key, down=True):
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver)
        (chain.key_down(key) if down else chain.key_up(key)).perform()

    def tab_to(self, name):
        """Presses Tab until the focus is there; fails if Tab does not lead there."""
        for _ in range(60):
            if self.focused().get_attribute("id") == name:
                return
            self.press("\ue004")
        raise AssertionError(f"Tab does not lead to {name}")

    def errors(self):
        """What the page's console has to complain of."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser on a studio that serves both games with the weights that ship; without one the tests are skipped."""
    if not (CHROMIUM and shutil.which("chromedriver")):
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    downloads = tmp_path_factory.mktemp("downloads")
    server = subprocess.Popen(
        [sys.executable, "-m", "common.studio", "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        url = next(word for line in server.stdout for word in line.split() if word.startswith("http://127.0.0.1:"))
        page = Browser(url, downloads)
        page.downloads = downloads
        try:
            page.until(lambda: page.text("steps") == "0")
            page.server = server
            yield page
        finally:
            page.driver.quit()
    finally:
        server.terminate()
        server.wait()


ENTER, SPACE, LEFT, UP, RIGHT, DELETE = "\ue007", " ", "\ue012", "\ue013", "\ue014", "\ue017"


def shown_in(url):
    """A picture as the page has it, a data: URL -> uint8 [64, 64, 3]."""
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_dream_is_driven_with_the_keyboard_and_its_reward_read(browser):
    """Catches a page that shows no dream, keys that do not drive it, and a reward that is not the dream's."""
    start, dreamt = browser.picture(0), browser.picture(2)
    browser.tab_to("run")
    browser.press(ENTER)
    assert browser.focused().get_attribute("id") == "stage"
    browser.hold(LEFT)
    browser.until(lambda: browser.number("steps") >= 10)
    drive = browser.driver.find_element("css selector", ".action dd")
    assert drive.text == "-1.00"
    browser.hold(LEFT, down=False)
    browser.until(lambda: drive.text == "0.00")
    browser.press(SPACE)
    browser.until(lambda: "Paused after" in browser.text("status"))
    steps, dreamt_now = browser.number("steps"), browser.picture(2)
    assert browser.text("status") == f"Paused after {steps:.0f} steps, reward {steps:.0f}."
    assert browser.number("reward") == steps  # 1 for every tic
    assert browser.picture(0) == start
    assert dreamt_now != dreamt
    browser.press(RIGHT)  # standing still, a press is one step
    browser.until(lambda: browser.number("steps") == steps + 1)
    assert drive.text == "1.00"
    assert not browser.errors()


def test_an_ended_dream_starts_again_by_a_key(browser):
    """Catches an end that the picture does not tell, and one that only a button leads on from."""
    browser.driver.execute_script("document.getElementById('speed').focus()")
    browser.press("\ue010")  # End: 50 steps per second
    browser.tab_to("temperature")
    before = browser.focused().get_attribute("value")
    browser.press("\ue010")  # 2.0, in which no one lives for long
    for key in (SPACE, ENTER):
        browser.element("again").send_keys(ENTER)
        [over] = browser.until(lambda: browser.driver.find_elements("css selector", ".played .over"))
        steps = browser.text("steps")
        assert over.text == f"Over: {steps} steps, reward {steps}. Space: again"
        assert browser.text("status").startswith(f"Over after {steps} steps, reward {steps}.")
        browser.press(key)
        browser.until(lambda: not browser.driver.find_elements("class name", "over"))
        browser.until(lambda: browser.number("steps") >= 1)
        browser.press(SPACE)
        browser.until(lambda: "Paused" in browser.text("status") or "Over" in browser.text("status"))
    browser.tab_to("speed")
    browser.press("\ue011", *[RIGHT] * 25)  # Home
    browser.tab_to("temperature")
    browser.press("\ue011", *[RIGHT] * round((float(before) - 0.1) / 0.05))
    assert browser.focused().get_attribute("value") == before
    assert not browser.errors()


def test_steps_come_no_faster_than_the_speed_that_is_set(browser):
    """Catches steps that hurry to make up for lost time, and a speed shown that is not the true one."""
    browser.tab_to("speed")
    browser.press(*[LEFT] * 15)
    browser.element("again").send_keys(ENTER)
    browser.until(lambda: 1 <= browser.number("steps") <= 10)
    first, began = browser.number("steps"), time.monotonic()
    browser.until(lambda: browser.number("steps") >= 50)
    assert (browser.number("steps") - first) / (time.monotonic() - began) < 15 * 1.2
    assert 0 < int(browser.text("speed-beside").removeprefix("now ")) < 15 * 1.2
    browser.press(SPACE)
    browser.tab_to("speed")
    browser.press(*[RIGHT] * 15)


def test_the_controls_work_without_a_mouse(browser):
    """Catches a slider, a fader, a start frame, a world or the GIF that only a pointer reaches."""
    browser.tab_to("temperature")
    before = browser.focused().get_attribute("value")
    browser.press(RIGHT)
    assert float(browser.focused().get_attribute("value")) == pytest.approx(float(before) + 0.05)
    assert browser.driver.find_element("css selector", "label[for=temperature] output").text == "1.3"

    browser.tab_to("z0")
    browser.press(RIGHT, RIGHT)
    assert browser.focused().get_attribute("id") == "z2"
    dreamt, value = browser.picture(2), float(browser.focused().get_attribute("value"))
    browser.press(*[UP] * 20)
    browser.until(lambda: browser.picture(2) != dreamt)
    assert float(browser.focused().get_attribute("value")) == pytest.approx(min(value + 2, 5), abs=0.11)
    assert "(1 held)" in browser.text("let-go")
    assert browser.focused().get_attribute("aria-valuetext").endswith(", held")
    browser.press(DELETE)
    assert "held" not in browser.text("let-go")

    steps = int(browser.number("steps"))
    browser.element("gif").send_keys(ENTER)
    gif = browser.downloads / "doomrnn-dream.gif"
    browser.until(gif.exists)
    with Image.open(gif) as picture:
        assert picture.n_frames == steps + 1
    assert f"{steps + 1} frames" in browser.text("status")

    real = browser.picture(0)
    browser.driver.find_elements("css selector", "input[name=frame]")[0].send_keys(RIGHT)
    browser.until(lambda: browser.number("steps") == 0 and browser.picture(0) != real)
    browser.driver.find_element("css selector", "input[name=world]").send_keys(RIGHT)
    browser.until(lambda: browser.text("stage").startswith("Real game"))
    browser.until(lambda: browser.element("one").is_enabled())
    browser.driver.find_element("css selector", "input[name=driver]").send_keys(RIGHT)  # the agent
    browser.element("one").send_keys(ENTER)
    browser.until(lambda: browser.number("reward") == 1)
    assert not browser.errors()


def test_after_a_click_the_keys_drive_again(browser):
    """Catches arrows that change what was clicked last, the game among it, and a Space that no longer starts."""
    dream_again(browser)
    browser.tab_to("speed")
    browser.press("\ue011", RIGHT)  # 6 steps per second: none ends meanwhile
    for where in (("css selector", "input[value=agent] + span"), ("id", "temperature"), ("id", "gif"), ("id", "again")):
        browser.element("again").send_keys(ENTER)
        browser.until(lambda: browser.text("run") == "Pause")
        browser.press(SPACE)
        browser.until(lambda: "Paused" in browser.text("status"))
        browser.click(*where)
        if where[1] != "again":
            browser.press(SPACE)
        browser.until(lambda: browser.text("run") == "Pause")
        browser.press(SPACE)
        browser.until(lambda: "Paused" in browser.text("status"))
    browser.click("css selector", "input[value=you] + span")
    steps = browser.number("steps")
    temperature = browser.element("temperature").get_attribute("value")
    browser.press(RIGHT)
    browser.until(lambda: browser.number("steps") == steps + 1)
    assert browser.driver.find_element("css selector", "input[name=driver]:checked").get_attribute("value") == "you"
    assert browser.element("temperature").get_attribute("value") == temperature
    browser.click("css selector", ".frames label:nth-child(3)")
    browser.until(lambda: browser.text("steps") == "0" and browser.element("one").is_enabled())
    browser.press(LEFT)
    browser.until(lambda: browser.text("steps") == "1")
    assert browser.driver.find_elements("css selector", "input[name=frame]")[2].is_selected()
    browser.click("css selector", "input[value=carracing] + span")
    browser.until(lambda: browser.text("reward") is None and browser.text("steps") == "0")
    browser.until(lambda: browser.element("one").is_enabled())
    browser.press(UP)
    browser.until(lambda: browser.text("steps") == "1")
    browser.click("css selector", "input[value=doomrnn] + span")
    browser.until(lambda: browser.text("reward") == "0" and browser.element("one").is_enabled())
    browser.tab_to("speed")
    browser.press("\ue011", *[RIGHT] * 25)
    assert not browser.errors()


def test_a_dream_goes_on_after_its_gif(browser):
    """Catches a GIF that leaves a running dream paused."""
    dream_again(browser)
    gif = browser.downloads / "doomrnn-dream.gif"
    gif.unlink(missing_ok=True)
    browser.element("again").send_keys(ENTER)
    browser.until(lambda: browser.number("steps") >= 5)
    browser.element("gif").send_keys(ENTER)
    browser.until(gif.exists)
    steps = browser.number("steps")
    browser.until(lambda: browser.number("steps") >= steps + 5 or "Over" in browser.text("status"))
    browser.press(SPACE)
    assert not browser.errors()


def dream_again(browser):
    """From wherever the test before has left the page."""
    if not browser.text("stage").startswith("Started from"):
        browser.driver.find_element("css selector", "input[name=world][value=game]").send_keys(LEFT)
    browser.until(lambda: browser.text("stage").startswith("Started from") and browser.element("one").is_enabled())


def test_the_game_is_switched_while_one_runs(browser):
    """Catches a last frame that finds no panels and freezes the page, a lost focus, a text of loading left behind."""
    dream_again(browser)
    for name, key in (("carracing", RIGHT), ("doomrnn", LEFT)):
        browser.until(lambda: browser.element("one").is_enabled())
        browser.element("run").send_keys(ENTER)
        browser.until(lambda: browser.number("steps") >= 5)
        browser.driver.find_element("css selector", "input[name=game]:checked").send_keys(key)
        browser.until(lambda: "is ready" in browser.text("status") and browser.text("steps") == "0")
        assert browser.focused().get_attribute("value") == name
        assert browser.focused().is_selected()
        assert (browser.text("reward") is None) == (name == "carracing")  # whose M does not know the game's
    browser.element("run").send_keys(ENTER)
    browser.until(lambda: browser.number("steps") >= 5)
    browser.press(SPACE)
    assert not browser.driver.find_elements("class name", "loading")
    assert not browser.errors()


def test_the_pictures_stay_beside_the_controls(browser):
    """Catches a slider or a fader of a dream that scrolls the picture away which it changes."""
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    dream_again(browser)
    sides = "const box = document.getElementById(arguments[0]).getBoundingClientRect(); return [box.top, box.bottom]"
    for name in ("panel0", "panel1", "panel2", "run", "steps", "temperature", "z0", "z63"):
        top, bottom = browser.driver.execute_script(sides, name)
        assert 0 <= top < bottom <= 800, name
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_first_picture_is_the_chosen_frame(browser):
    """Catches pictures in other colors, or shifted by a byte of the message that they came in."""
    dream_again(browser)
    chosen = browser.driver.find_element("css selector", "input[name=frame]:checked + img").get_attribute("src")
    np.testing.assert_array_equal(shown_in(browser.picture(0)), shown_in(chosen))


def test_a_screen_reader_is_told_what_everything_is(browser):
    """Catches a control without a name or two of the same, a tick or a number that is read out, no language."""
    assert browser.driver.find_element("tag name", "html").get_attribute("lang") == "en"
    assert browser.element("status").aria_role == "status"
    assert len(browser.driver.find_elements("tag name", "h1")) == 1
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    controls = [pair for pair in names if pair[0] in ("button", "radio", "slider", "image", "application")]
    assert len(controls) > 64 + 16
    assert all(name for _, name in controls)
    assert len(set(controls)) == len(controls)
    assert {"Doom: Take Cover", "CarRacing", "Dream", "You"} <= {name for role, name in names if role == "radio"}
    assert "63" not in {name for _, name in names}  # a fader's number, beside "z 63"


def test_the_page_fits_a_telephone(browser):
    """Catches a page that has to be scrolled sideways, and a pad that fingers cannot press."""
    browser.driver.set_window_size(500, 900)  # as narrow as Chromium's window gets
    width = "return [document.documentElement.scrollWidth, innerWidth]"
    content, window = browser.driver.execute_script(width)
    assert content <= window
    pad = browser.driver.find_elements("css selector", ".pad button")
    assert {button.accessible_name for button in pad} == {"step left", "step right"}
    assert all(min(button.size.values()) >= 44 for button in pad)


def test_a_page_too_many_says_why(browser):
    """Catches a page that says for ever that it loads its models, though the studio has refused it."""
    driver, here = browser.driver, browser.driver.current_window_handle
    url, more = driver.current_url, "Array.from({ length: 7 }, () => new WebSocket(`ws://${location.host}/play`))"
    driver.execute_script(f"window.more = {more}")
    browser.until(lambda: driver.execute_script("return more.every((socket) => socket.readyState === 1)"))
    driver.switch_to.new_window("tab")
    try:
        driver.get(url)
        browser.until(lambda: "8 pages are open already" in (browser.text("status") or ""))
        time.sleep(1)  # a page that goes on says then that it loads
        said = browser.text("app")
        assert "8 pages are open already" in said
        assert "Loading" not in said
    finally:
        driver.close()
        driver.switch_to.window(here)
        driver.execute_script("more.forEach((socket) => socket.close())")


def test_a_studio_that_is_closed_is_told_of(browser):
    """Catches a page that goes on as if it were answered. (The last test: the studio is gone.)"""
    browser.server.terminate()
    browser.until(lambda: "Start it again" in browser.text("status"), seconds=60)
