"""A conversation as people have it: ask, stop, ask again, change, with the keyboard and with settings."""
import time

from . import mock
from .browser import ANSWER, PageCase


class Chat(PageCase):
    def test_an_answer_is_streamed_and_shown(self):
        self.ask("Why?")
        self.assertEqual(self.text(".message.user .text"), "Why?")
        self.assertEqual(self.page.inner_text(f"{ANSWER} strong"), "fast")
        self.assertEqual(self.text(ANSWER), "Ring buffers are fast: no byte is moved.")
        self.assertIn("12 tokens · 40 tokens/s · 2.40 tokens a round · 40 % of 20 drafted accepted", self.text(".message.assistant footer"))
        self.assertEqual(self.text("#title"), "Why?")
        [request] = self.mock.requests
        self.assertEqual(request, {
            "model": "mock-135m", "messages": [{"role": "user", "content": "Why?"}], "stream": True,
            "stream_options": {"include_usage": True}, "dovetail": {"rounds": True, "drafting": "auto"}})

    def test_the_answer_grows_while_it_is_written(self):
        self.mock.answer = lambda body: mock.stream([mock.delta("First"), mock.delta(" second")], pause=1.0)
        self.ask("Why?", ends=False)
        self.until(lambda: self.text(ANSWER) == "First")
        self.assertEqual(self.page.get_attribute(".message.assistant", "aria-busy"), "true")
        self.assertTrue(self.page.locator("#send").is_hidden())
        self.page.wait_for_selector("#send:visible")
        self.assertEqual(self.text(ANSWER), "First second")
        self.assertEqual(self.page.get_attribute(".message.assistant", "aria-busy"), "false")

    def test_the_conversation_is_sent_without_reasoning(self):
        self.mock.answer = lambda body: mock.stream([mock.delta(reasoning_content="Hm."), mock.delta("Blue.")])
        self.ask("One")
        self.ask("Two")
        self.assertEqual([(m["role"], m["content"]) for m in self.mock.requests[1]["messages"]],
                         [("user", "One"), ("assistant", "Blue."), ("user", "Two")])

    def test_reasoning_is_folded(self):
        self.mock.answer = lambda body: mock.stream([mock.delta(reasoning_content="I *think*."), mock.delta("Blue.")])
        self.ask("Why?")
        self.assertFalse(self.page.locator(".reasoning em").is_visible())
        self.page.click(".reasoning summary")
        self.assertTrue(self.page.locator(".reasoning em").is_visible())
        self.assertEqual(self.text(ANSWER), "Blue.")

    def test_stop_keeps_what_is_there_and_tells_the_server(self):
        for stop in (lambda: self.page.press("body", "Escape"), lambda: self.page.click("#stop")):
            self.mock.gone.clear()
            self.mock.answer = lambda body: mock.stream([mock.delta(f" word{i}") for i in range(200)], pause=0.05)
            self.page.click("#new")
            self.ask("Why?", ends=False)
            self.until(lambda: "word3" in self.text(ANSWER))
            stop()
            self.page.wait_for_selector("#send:visible")
            self.assertTrue(self.mock.gone.wait(5), "the connection is closed")
            self.frame()
            shown = self.text(ANSWER)
            self.assertIn("word3", shown)
            self.assertIn("stopped", self.text(".message.assistant footer"))
            self.page.reload()
            self.assertEqual(self.text(ANSWER), shown)

    def test_nothing_is_waited_for_behind_the_end(self):
        def answer(body):
            yield from mock.stream([mock.delta("All")])
            yield from [0.1, b": still here\n\n"] * 100
        self.mock.answer = answer
        self.ask("Why?")
        self.assertEqual(self.text(ANSWER), "All")
        self.assertTrue(self.mock.gone.wait(5), "the connection is closed")

    def test_regenerate_replaces_the_answer(self):
        self.ask("Why?")
        self.mock.answer = lambda body: mock.stream([mock.delta("Another")])
        self.page.click("text=Regenerate")
        self.page.wait_for_selector("#send:visible")
        self.frame()
        self.assertEqual(self.texts(ANSWER), ["Another"])
        self.assertEqual(self.mock.requests[0], self.mock.requests[1])

    def test_an_edited_question_is_asked_again(self):
        self.ask("One")
        self.ask("Two")
        self.page.click("text=Edit >> nth=0")
        self.page.fill(".message textarea", "Changed")
        self.page.press(".message textarea", "Escape")
        self.assertEqual(self.texts(".message.user .text"), ["One", "Two"])
        self.page.click("text=Edit >> nth=0")
        self.page.fill(".message textarea", "Changed")
        self.page.press(".message textarea", "Enter")
        self.page.wait_for_selector("#send:visible")
        self.assertEqual(self.texts(".message.user .text"), ["Changed"])
        self.assertEqual(self.mock.requests[-1]["messages"], [{"role": "user", "content": "Changed"}])

    def test_shift_enter_breaks_the_line(self):
        self.page.fill("#input", "one")
        self.page.press("#input", "Shift+Enter")
        self.page.type("#input", "two")
        self.assertEqual(self.mock.requests, [])
        self.page.press("#input", "Enter")
        self.page.wait_for_selector("#send:visible")
        self.assertEqual(self.mock.requests[0]["messages"][0]["content"], "one\ntwo")

    def test_enter_that_chooses_a_character_does_not_send(self):
        self.page.fill("#input", "かんじ")
        self.page.evaluate("""document.querySelector("#input").dispatchEvent(
          new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true }))""")
        self.frame()
        self.assertEqual((self.mock.requests, self.page.input_value("#input")), ([], "かんじ"))

    def test_nothing_is_not_sent(self):
        self.ask(" \n ", ends=False)
        self.page.click("#send")
        self.assertEqual((self.mock.requests, self.page.locator(".message").count()), ([], 0))

    def test_settings_are_sent_and_kept(self):
        self.page.click("#show-settings")
        self.assertEqual(self.page.get_attribute("[name=temperature]", "placeholder"), "0.8")
        for name, value in {"system": "Be brief.", "temperature": "0.5", "top_p": "0.9", "min_p": "0", "seed": "7", "max_tokens": "50"}.items():
            self.page.fill(f"[name={name}]", value)
        self.page.select_option("[name=drafting]", "off")
        self.page.click("button[value=save]")
        self.ask("Why?")
        [request] = self.mock.requests
        expected = {"temperature": 0.5, "top_p": 0.9, "min_p": 0, "seed": 7, "max_tokens": 50,
                    "dovetail": {"rounds": True, "drafting": "off"}}
        self.assertEqual({name: request.get(name) for name in expected}, expected)
        self.assertEqual(request["messages"][0], {"role": "system", "content": "Be brief."})
        self.page.reload()
        self.page.click("#show-settings")
        self.assertEqual((self.page.input_value("[name=system]"), self.page.input_value("[name=seed]")), ("Be brief.", "7"))

    def test_settings_that_are_left_are_not_taken(self):
        for leave in (lambda: self.page.click("button[value=cancel]"), lambda: self.page.press("[name=seed]", "Escape")):
            self.page.click("#show-settings")
            self.page.fill("[name=seed]", "7")
            leave()
        self.ask("Why?")
        self.assertNotIn("seed", self.mock.requests[0])

    def test_another_conversation_can_be_read_while_one_is_written(self):
        self.ask("One")
        self.page.click("#new")
        self.mock.answer = lambda body: mock.stream([mock.delta("Long"), mock.delta(" answer")], pause=0.7)
        self.ask("Two", ends=False)
        self.page.click("#conversations >> text=One")
        self.assertEqual(self.texts(".message.user .text"), ["One"])
        self.page.wait_for_selector("#send:visible")
        self.assertIn("Ring buffers", self.text(ANSWER))
        self.page.click("#conversations >> text=Two")
        self.assertEqual(self.text(ANSWER), "Long answer")

    def test_what_is_written_survives_a_reload(self):
        self.mock.answer = lambda body: mock.stream([mock.delta(f" w{i}") for i in range(100)], pause=0.1)
        self.ask("Why?", ends=False)
        time.sleep(3.5)
        self.page.reload()
        self.assertIn("w20", self.text(ANSWER))

    def test_hostile_texts_stay_texts_everywhere(self):
        hostile = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"
        node = {"text": hostile, "parent": None, "p": 0.5}
        said = {"pieces": [{"text": hostile, "drafted": False}], "round": {"n": hostile, "ms": 1, "nodes": [node], "accepted": []}}
        self.mock.answer = lambda body: mock.stream([mock.delta(hostile, said, reasoning_content=hostile)])
        self.ask(hostile)
        self.page.hover(".token >> nth=0")
        self.page.reload()
        self.page.wait_for_selector(".message")
        self.assertIsNone(self.page.evaluate("window.pwned"))
        self.assertEqual(self.page.locator("main img, main script, nav img, aside img").count(), 0)
        self.assertIn(hostile[:30], self.text(ANSWER))

    def test_code_is_copied(self):
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.mock.answer = lambda body: mock.stream([mock.delta("```c\nint *a = b;\n```")])
        self.ask("Why?")
        self.page.click("[aria-label='Copy this code']")
        self.until(lambda: self.text("figcaption button") == "Copied")
        self.assertEqual(self.page.evaluate("navigator.clipboard.readText()"), "int *a = b;\n")
