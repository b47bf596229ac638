"""What nobody else shows: tokens by their origin, the tree of each round, charts, plain against speculative."""
from . import mock
from .browser import PageCase

LAST = "#panel-body .stepper output"


class Rounds(PageCase):
    def setUp(self):
        super().setUp()
        self.ask("Why?")

    def tokens(self, kind):
        return self.page.locator(f".message.assistant {kind}").all_text_contents()

    def test_tokens_are_coloured_by_origin(self):
        # The marks of "**fast**" are not shown, whoever drafted them.
        self.assertEqual(self.tokens(".token.drafted"), ["Ring", " buffers", " ", "fast", " no", " byte", " moved"])
        self.assertEqual(self.tokens(".token:not(.drafted)"), [" are", ":", " is", "."])
        colour = "getComputedStyle(document.querySelector('.message .token.drafted')).backgroundColor"
        coloured = self.page.evaluate(colour)
        self.page.uncheck("[role=switch]")
        self.assertNotEqual(self.page.evaluate(colour), coloured)
        self.page.reload()
        self.assertFalse(self.page.is_checked("[role=switch]"), "the choice is kept")

    def test_pointing_at_a_token_shows_its_round(self):
        self.page.hover(".message .token >> text=byte")
        self.frame()
        self.assertEqual(self.text(LAST), "Round 4 of 5")
        self.assertEqual(self.tokens(".token.marked"), [" no", " byte", " is"])
        self.assertEqual(self.page.get_attribute(".message .token >> text=byte", "title"), "Round 4, 28.0 ms: drafted")

    def test_the_tree_has_path_branches_and_the_models_token(self):
        self.step("First round")
        count = lambda kind: self.page.locator(f".tree .node.{kind}").count()
        self.assertEqual({kind: count(kind) for kind in ("last", "accepted", "rejected", "target")},
                         {"last": 1, "accepted": 2, "rejected": 6, "target": 1})
        self.assertEqual(self.page.locator(".tree .node.accepted text").all_text_contents(), ["Ring", "␣buffers"])
        self.assertEqual(self.page.locator(".tree .node.target text").all_text_contents(), ["␣are"])
        self.assertEqual(self.text(".caption"), "3 tokens in 28 ms: 2 of 8 drafted ones accepted")
        self.assertIn("Accepted: Ring ␣buffers. Rejected: 6. The model's own: ␣are.", self.page.get_attribute(".tree", "aria-label"))

    def test_probabilities_are_width_and_opacity(self):
        self.step("First round")
        widths = self.page.eval_on_selector_all(".tree .edge.accepted", "all => all.map((e) => +e.getAttribute('stroke-width'))")
        self.assertEqual([round(width, 2) for width in widths], [1 + 4 * 0.9, 1 + 4 * 0.78])
        fills = self.page.eval_on_selector_all(".tree .node.rejected rect", "all => all.map((e) => +e.getAttribute('fill-opacity'))")
        self.assertAlmostEqual(max(fills), 0.15 + 0.85 * 0.4)
        self.assertAlmostEqual(min(fills), 0.15 + 0.85 * 0.02)

    def test_nodes_do_not_overlap(self):
        boxes = self.run_js("tree.js", """
          return a.map((round) => m.layout(round).map(({ x, y }) => `${x} ${y}`)).map((all) => new Set(all).size === all.length);""",
          [mock.round_of(1, list("abcdefgh"[:n])) | mock.round_of(1, list("abcdefgh"[:n]))["round"] for n in range(1, 9)])
        self.assertEqual(boxes, [True] * 8)

    def test_a_large_tree_is_scrolled_to_its_end(self):
        self.page.click("#new")
        self.mock.answer = lambda body: mock.stream(mock.rounds(list("abcdefghij")))
        self.page.click("#hide-panel")
        self.ask("Why?")
        self.page.click("#show-panel")
        self.frame()
        tree, end = (self.page.locator(each).bounding_box() for each in (".tree-scroll", ".tree .node.target"))
        self.assertGreater(end["x"], tree["x"])
        self.assertLess(end["x"] + end["width"], tree["x"] + tree["width"])
        self.assertTrue(tree["y"] < end["y"] < tree["y"] + tree["height"])

    def test_pieces_without_a_tree(self):
        self.page.click("#new")
        said = [{"pieces": [{"text": " a", "drafted": True}, {"text": " b", "drafted": False}]}]
        self.mock.answer = lambda body: mock.stream([mock.delta(" a b", each) for each in said])
        self.ask("Why?")
        self.assertEqual((self.tokens(".token.drafted"), self.text(".caption")), (["a"], "2 tokens, 1 drafted"))
        self.assertTrue(self.page.locator(".tree-scroll").is_hidden())
        self.assertEqual(self.page.locator(".chart").count(), 1, "no times, no chart of them")

    def test_stepping(self):
        self.assertEqual(self.text(LAST), "Round 5 of 5")
        self.assertTrue(self.page.is_disabled("[aria-label='Next round']"))
        self.step("Round before")
        self.assertEqual((self.text(LAST), self.tokens(".token.marked")), ("Round 4 of 5", [" no", " byte", " is"]))
        self.step("First round")
        self.assertTrue(self.page.is_disabled("[aria-label='Round before']"))
        self.step("Next round")
        self.assertEqual(self.text(LAST), "Round 2 of 5")
        self.step("Last round")
        self.assertEqual((self.text(LAST), self.tokens(".token.marked")), ("Round 5 of 5", []))

    def test_a_past_round_stays_while_the_answer_grows(self):
        self.page.click("#new")
        self.mock.answer = lambda body: mock.stream(mock.rounds(*[["a", " b"]] * 12), pause=0.25)
        self.ask("Why?", ends=False)
        self.until(lambda: self.text(LAST) == "Round 3 of 3")
        self.step("First round")
        self.until(lambda: self.text(LAST) == "Round 1 of 6")
        self.step("Last round")
        self.until(lambda: self.text(LAST) == "Round 12 of 12")

    def test_charts(self):
        self.assertEqual(self.page.locator(".chart").count(), 2)
        self.assertEqual(self.page.locator(".chart >> nth=0 >> .bar").count(), 5)
        self.assertEqual(self.page.get_attribute(".chart svg >> nth=0", "aria-label"), "Tokens a round: mean 2.40 tokens")
        heights = self.page.eval_on_selector_all(".chart:first-child .bar", "all => all.map((e) => +e.getAttribute('height') / 64)")
        self.assertEqual([round(height, 3) for height in heights], [1, 1, 0.333, 1, 0.667])
        self.page.click(".chart >> nth=1 >> .bar >> nth=1")
        self.frame()
        self.assertEqual(self.text(LAST), "Round 2 of 5")

    def test_the_last_hundred_rounds_are_charted(self):
        self.page.click("#new")
        self.mock.answer = lambda body: mock.stream(mock.rounds(*[["a", " b"]] * 150))
        self.ask("Why?")
        self.assertEqual((self.text(LAST), self.page.locator(".chart >> nth=0 >> .bar").count()), ("Round 150 of 150", 100))
        self.page.click(".chart >> nth=0 >> .bar >> nth=0")
        self.frame()
        self.assertEqual(self.text(LAST), "Round 51 of 150")

    def step(self, name):
        self.page.click(f"[aria-label='{name}']")
        self.frame()


class Compare(PageCase):
    SPEED = {"off": 20.0, "on": 50.0}

    def answer(self, texts):
        def answer(body):
            drafting = body["dovetail"]["drafting"]
            timings = {**mock.TIMINGS, "predicted_per_second": self.SPEED.get(drafting, 1.0)}
            if drafting == "off":
                timings.update(draft_n=0, draft_n_accepted=0)
            return mock.stream([mock.delta(texts.get(drafting, "Asked"))], timings=timings)
        return answer

    def compare(self, **texts):
        self.mock.answer = self.answer(texts)
        self.ask("Why?")
        self.mock.requests.clear()
        self.page.click("#compare")
        self.page.wait_for_selector(".compare table")
        return self.text(".compare [role=status]")

    def test_equal_texts_and_both_speeds(self):
        said = self.compare(off="The same", on="The same")
        self.assertEqual(said, "2.50 × as fast. The texts are equal (8 characters).")
        self.assertEqual(self.texts(".compare tbody tr"), ["plain\t12\t20\t–", "speculative\t12\t50\t40 %"])
        plain, speculative = self.mock.requests
        self.assertEqual((plain["dovetail"]["drafting"], speculative["dovetail"]["drafting"]), ("off", "on"))
        self.assertIsInstance(plain["seed"], int)
        plain.pop("dovetail"), speculative.pop("dovetail")
        self.assertEqual(plain, speculative)
        self.assertEqual(plain["messages"], [{"role": "user", "content": "Why?"}])
        self.assertEqual(self.page.locator(".message").count(), 2, "the conversation stays as it is")

    def test_texts_that_differ(self):
        self.assertIn("The texts differ from character 5 on.", self.compare(off="The same", on="The other"))

    def test_without_a_question(self):
        self.page.click("#compare")
        self.assertIn("Ask something first", self.text(".compare [role=status]"))

    def test_errors_are_shown_and_it_can_be_stopped(self):
        self.compare(off="a", on="a")
        self.mock.refusal = lambda body: (429, {"error": {"message": "too many requests"}})
        self.page.click("#compare")
        self.page.wait_for_selector("#send:visible")
        self.assertEqual(self.text(".compare [role=status]"), "429: too many requests")
        self.mock.refusal = None
        self.mock.answer = lambda body: mock.stream([mock.delta("x")] * 100, pause=0.1)
        self.page.click("#compare")
        self.until(lambda: self.text(".compare [role=status]").startswith("plain: "))
        self.page.press("body", "Escape")
        self.page.wait_for_selector("#send:visible")
        self.assertEqual(self.text(".compare [role=status]"), "stopped")
        self.assertTrue(self.mock.gone.wait(5))
