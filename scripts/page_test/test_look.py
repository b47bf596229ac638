"""The page for everybody: names of controls, contrast, the keyboard, a phone, less motion, nothing from elsewhere."""
import pathlib
import re

from . import mock
from .browser import PageCase

CONTRAST = """(pairs) => {
  const probe = document.createElement("i");
  document.body.append(probe);
  const light = (name) => {
    probe.style.color = `var(--${name})`;
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
    const [r, g, b] = parts.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return pairs.map(([a, b]) => [light(a), light(b)]).map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
}"""
# Text and ground; WCAG 2 asks for 4.5. Lines that carry meaning; it asks for 3.
TEXTS = [("text", "ground"), ("text", "raised"), ("text", "drafted"), ("text", "marked"), ("text", "own-fill"), ("text", "line"),
         ("quiet", "ground"), ("quiet", "raised"), ("quiet", "drafted"), ("accent", "ground"), ("accent-text", "accent"), ("error", "raised")]
LINES = [("drafted-line", "ground"), ("drafted-line", "drafted"), ("own", "ground"), ("focus", "ground"), ("focus", "raised")]


class Look(PageCase):
    def test_all_controls_have_names(self):
        self.ask("Why?")
        self.page.hover("#conversations li")
        nameless = self.page.evaluate("""() => [...document.querySelectorAll("button, input, textarea, select, [role=img], summary, a")]
          .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
          .map((e) => e.outerHTML)""")
        self.assertEqual(nameless, [])
        for role, name in [("navigation", "Conversations"), ("main", None), ("complementary", "Rounds of the answer"), ("log", "Messages"),
                           ("textbox", "Message"), ("switch", "Colour the tokens of answers")]:
            self.assertEqual(self.page.get_by_role(role, **({"name": name, "exact": True} if name else {})).count(), 1, role)

    def test_contrast(self):
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            for pairs, least in ((TEXTS, 4.5), (LINES, 3)):
                for pair, contrast in zip(pairs, self.page.evaluate(CONTRAST, pairs), strict=True):
                    with self.subTest(scheme=scheme, pair=pair):
                        self.assertGreaterEqual(contrast, least)

    def test_the_keyboard_reaches_what_is_there(self):
        self.ask("Why?")
        self.page.focus("body")
        reached = set()
        for _ in range(60):
            self.page.keyboard.press("Tab")
            reached.add(self.page.evaluate("document.activeElement.id || document.activeElement.ariaLabel || document.activeElement.textContent"))
        for name in ("new", "export", "import", "Rename Why?", "Delete Why?", "show-settings", "Regenerate", "input", "send", "First round", "Draft tree", "compare"):
            self.assertIn(name, reached)

    def test_the_skip_link_leads_to_the_message(self):
        self.ask("Why?")
        self.page.focus(".skip")
        self.page.keyboard.press("Enter")
        self.frame()
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "input")
        self.assertEqual(self.texts(".message.user .text"), ["Why?"])

    def test_the_focus_shows(self):
        self.page.keyboard.press("Tab")
        self.page.keyboard.press("Tab")
        self.assertEqual(self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle"), "solid")

    def test_a_narrow_window_has_all(self):
        for width in (320, 390, 700, 1000):
            self.page.set_viewport_size({"width": width, "height": 700})
            self.page.goto(self.mock.url + "?" + str(width))
            self.mock.answer = lambda body: mock.stream([mock.delta("x" * 300 + "\n\n```\n" + "y" * 300 + "\n```\n\n|" + "z|" * 40 + "\n|" + "-|" * 40)])
            self.ask("w" * 200)
            self.assertLessEqual(self.page.evaluate("document.documentElement.scrollWidth"), width)
            for selector in ("#input", "#send", "#show-settings", "#show-panel"):
                box = self.page.locator(selector).bounding_box()
                self.assertTrue(0 <= box["x"] and box["x"] + box["width"] <= width and box["y"] + box["height"] <= 700, (width, selector, box))
            self.assertTrue(self.page.locator("#panel").is_hidden())
            self.page.click("#show-panel")
            self.assertTrue(self.page.locator("#panel").is_visible())
            self.page.click("#hide-panel")
            if width <= 720:
                self.page.click("#show-sidebar")
                self.page.click("#new")
                self.assertTrue(self.page.locator("#sidebar").is_hidden())

    def test_less_motion(self):
        name = "getComputedStyle(document.querySelector('.message.empty'), '::before').animationName"
        self.mock.answer = lambda body: iter([1.0, 1.0])
        self.ask("Why?", ends=False)
        self.page.wait_for_selector(".message.empty")
        self.assertEqual(self.page.evaluate(name), "wait")
        self.page.emulate_media(reduced_motion="reduce")
        self.assertEqual(self.page.evaluate(name), "none")

    def test_scripts_within_the_page_are_forbidden(self):
        self.page.evaluate("""() => {
          const script = document.createElement("script");
          script.textContent = "window.pwned = 1";
          document.body.append(script);
        }""")
        self.assertIsNone(self.page.evaluate("window.pwned"))
        self.assertEqual(len(self.faults), 1)
        self.assertIn("Content Security Policy", self.faults.pop())

    def test_files_name_no_other_address(self):
        for path in mock.PAGE.iterdir():
            for address in re.findall(r"(?:https?:)?//[\w.]+\.\w+[^\s'\"]*", path.read_text()):
                self.assertEqual(address.rstrip("/"), "http://www.w3.org/2000/svg", path.name)

    def test_it_works_behind_a_prefix(self):
        for path in mock.PAGE.iterdir():
            self.assertNotRegex(path.read_text(), r"(?:src|href|from|fetch\()\s*=?\s*[\"']/", path.name)


class Script(PageCase):
    options = {"java_script_enabled": False}

    def test_without_scripts_a_line_says_so(self):
        self.assertIn("needs JavaScript", self.page.inner_text("main"))
