"""One Chromium for all tests, and a test case that opens the page in it."""
import time
import unittest

from . import mock

PROGRAM = None
SERVER = None
MODULES = ["test_text", "test_markdown", "test_store", "test_chat", "test_server_errors", "test_look", "test_rounds"]
PATIENCE_MS = 10_000
ANSWER = ".message.assistant > .markdown"
_open = {}


def chromium():
    from playwright.sync_api import sync_playwright

    if not _open:
        _open["driver"] = sync_playwright().start()
        # As root, which CI is, Chromium starts only without its own sandbox.
        _open["browser"] = _open["driver"].chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
    return _open["browser"]


def close():
    if _open:
        _open["browser"].close()
        _open["driver"].stop()
        _open.clear()


class PageCase(unittest.TestCase):
    """A test with a made-up server, and a page that is open on it. Errors of the page's own code fail the test."""

    options = {"viewport": {"width": 1360, "height": 850}}

    def setUp(self):
        self.mock = mock.Mock()
        self.addCleanup(self.mock.server.shutdown)
        self.context = chromium().new_context(accept_downloads=True, **self.options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.addCleanup(self.context.close)
        self.faults, self.hosts = [], set()
        self.page = self.new_page()
        self.page.goto(self.mock.url)
        if self.options.get("java_script_enabled", True):
            self.until(lambda: self.text("#server").startswith("mock"))

    def new_page(self):
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: said.type == "error" and "Failed to load resource" not in said.text
                and self.faults.append(said.text))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        return page

    def tearDown(self):
        self.assertEqual(self.faults, [])
        ours = self.mock.url.split("/")[2]
        elsewhere = {host for host in self.hosts if host != ours and not host.startswith("svg+xml")}
        self.assertEqual(elsewhere, set(), "the page asks nobody else")

    def ask(self, text, ends=True):
        self.page.fill("#input", text)
        self.page.press("#input", "Enter")
        if ends:
            self.page.wait_for_selector("#send:visible")
            self.frame()

    def frame(self, page=None):
        """Waits until what is drawn before the next frame has been drawn."""
        (page or self.page).evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def until(self, holds):
        """Waits for what the page has no event for; its own policy forbids Playwright's way to."""
        end = time.monotonic() + PATIENCE_MS / 1000
        while not holds():
            self.assertLess(time.monotonic(), end, "waited for too long")
            self.page.wait_for_timeout(20)

    def text(self, selector):
        return self.page.locator(selector).first.inner_text()

    def texts(self, selector):
        return self.page.locator(selector).all_inner_texts()

    def run_js(self, module, body, argument=None):
        """The value of `body`, which sees the exports of a module of the page as `m`, and `argument` as `a`."""
        return self.page.evaluate(f"async (a) => {{ const m = await import('/page/{module}'); {body} }}", argument)
