"""What the page says when the server refuses, breaks off, loads, or wants a key; and servers that are not Dovetail."""
from . import mock
from .browser import ANSWER, PageCase


class Errors(PageCase):
    def error_of(self, text="Why?"):
        self.ask(text)
        return self.text(".message.assistant:last-of-type .error")

    def test_refusals_are_shown_as_they_came(self):
        for refusal, said in [
            ((400, {"error": {"message": "top_p must be in 0..1", "type": "invalid_request_error"}}), "400: top_p must be in 0..1"),
            ((429, {"error": {"message": "too many requests"}}, {"retry-after": "3"}), "429: too many requests (the server asks to try again in 3 s)"),
            ((500, "plain <b>words</b>"), "500: plain <b>words</b>"),
            ((404, {"error": "no such model"}), "404: no such model"),
            ((502, ""), "502: no explanation"),
        ]:
            self.mock.refusal = lambda body, refusal=refusal: refusal
            self.page.click("#new")
            self.assertEqual(self.error_of(), said)
        self.mock.refusal = None
        self.page.click("text=Regenerate")
        self.page.wait_for_selector("#send:visible")
        self.frame()
        self.assertTrue(self.page.locator(".error").is_hidden())

    def test_an_error_within_the_stream(self):
        def answer(body):
            yield mock.event(mock.delta("Half"))
            yield mock.event({"error": {"message": "context is full", "code": 500}})
        self.mock.answer = answer
        self.assertEqual(self.error_of(), "context is full")
        self.assertEqual(self.text(ANSWER), "Half")

    def test_a_connection_that_ends_early(self):
        self.mock.answer = lambda body: iter([mock.event(mock.delta("Half"))])
        self.assertEqual(self.error_of(), "the connection ended before the answer did")

    def test_a_stream_of_nonsense(self):
        self.mock.answer = lambda body: iter([b"data: {nonsense\n\n"])
        self.assertIn("no JSON: {nonsense", self.error_of())

    def test_a_server_that_is_gone(self):
        self.page.route("**/v1/chat/completions", lambda route: route.abort("connectionrefused"))
        self.assertIn("the server cannot be reached", self.error_of())

    def test_a_key_is_asked_for_and_used(self):
        self.mock.key = "secret"
        self.page.reload()
        self.page.wait_for_selector("#key:visible")
        self.page.fill("#key-field", "wrong")
        self.page.press("#key-field", "Enter")
        self.until(lambda: self.text("#server") == "Invalid API key")
        self.assertEqual(self.error_of(), "401: Invalid API key")
        self.page.fill("#key-field", "secret")
        self.page.press("#key-field", "Enter")
        self.page.wait_for_selector("#key", state="hidden")
        self.page.click("text=Regenerate")
        self.page.wait_for_selector("#send:visible")
        self.frame()
        self.assertIn("Ring buffers", self.text(ANSWER))
        self.page.reload()
        self.until(lambda: self.text("#server").startswith("mock"))
        self.assertNotIn("secret", str(self.page.evaluate("JSON.stringify(localStorage)")), "kept for the tab alone")

    def test_a_model_that_is_being_loaded_is_waited_for(self):
        self.mock.health = 503
        self.page.reload()
        self.until(lambda: "being loaded" in self.text("#server"))
        self.mock.health = 200
        self.until(lambda: self.text("#server") == "mock-135m · context 4096")


class OtherServers(PageCase):
    PLAIN = [mock.delta("Plain "), mock.delta("*text*")]

    def test_no_rounds_no_timings(self):
        self.mock.answer = lambda body: iter([*map(mock.event, self.PLAIN), mock.event(mock.delta(finish="stop")), b"data: [DONE]\n\n"])
        self.mock.health = 404
        self.page.reload()
        self.ask("Why?")
        self.assertEqual(self.page.inner_html(ANSWER), "<p>Plain <em>text</em></p>")
        self.assertIn("has not reported the rounds", self.text("#panel-body > .quiet"))
        self.assertTrue(self.page.locator(".tree-scroll").is_hidden())
        self.page.click("#compare")
        self.page.wait_for_selector(".compare table")
        self.assertIn("drafted nothing", self.text(".compare [role=status]"))

    def test_a_server_that_refuses_the_field_is_asked_without_it(self):
        self.mock.refusal = lambda body: "dovetail" in body and (400, {"error": {"message": "unknown field: dovetail"}})
        self.mock.answer = lambda body: mock.stream(self.PLAIN)
        self.ask("Why?")
        self.assertEqual(self.text(ANSWER), "Plain text")
        self.assertEqual(["dovetail" in request for request in self.mock.requests], [True, False])

    def test_a_server_that_does_not_stream(self):
        whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "All at once"}, "finish_reason": "stop"}]}
        self.mock.refusal = lambda body: (200, whole)
        self.ask("Why?")
        self.assertEqual(self.text(ANSWER), "All at once")
        self.assertTrue(self.page.locator(".error").is_hidden())
