"""The page against a server that runs: scripts/test-page --server URL."""
import os
import unittest

from . import browser


class Server(unittest.TestCase):
    def setUp(self):
        context = browser.chromium().new_context(viewport={"width": 1360, "height": 850})
        context.set_default_timeout(120_000)
        self.addCleanup(context.close)
        self.page = context.new_page()
        self.faults = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(browser.SERVER)
        self.page.wait_for_selector("#key:visible, #server:has-text('context')")
        if self.page.locator("#key").is_visible():
            self.page.fill("#key-field", os.environ.get("DOVETAIL_API_KEY", ""))
            self.page.press("#key-field", "Enter")
            self.page.wait_for_selector("#server:has-text('context')")
        self.page.click("#show-settings")
        self.page.fill("[name=max_tokens]", "60")
        self.page.click("button[value=save]")
        self.ask("Name three uses of a ring buffer.")

    def tearDown(self):
        self.assertEqual(self.faults, [])

    def ask(self, text):
        self.page.fill("#input", text)
        self.page.press("#input", "Enter")
        self.page.wait_for_selector("#send:visible")
        self.page.wait_for_timeout(200)

    def test_an_answer_has_text_tokens_and_rounds(self):
        self.assertTrue(self.page.locator(".error").first.is_hidden(), self.page.locator(".error").first.text_content())
        self.assertGreater(len(self.page.inner_text(browser.ANSWER)), 20)
        self.assertIn("tokens/s", self.page.inner_text(".message.assistant footer"))
        self.assertGreater(self.page.locator(f"{browser.ANSWER} .token").count(), 10)
        shown = self.page.locator(f"{browser.ANSWER} .token").all_text_contents()
        self.assertGreater(sum(map(len, shown)), 0.8 * len(self.page.inner_text(browser.ANSWER)), "nearly all text is tokens")
        self.assertEqual(self.page.locator(".chart").count(), 2)

    def test_plain_and_speculative_texts_are_equal(self):
        self.page.click("#compare")
        self.page.wait_for_selector(".compare table")
        self.assertRegex(self.page.inner_text(".compare [role=status]"), r"The texts are equal|drafted nothing")
        self.assertNotIn("differ", self.page.inner_text(".compare [role=status]"))
