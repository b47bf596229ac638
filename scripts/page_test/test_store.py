"""Conversations in the browser: kept, exported, imported, and what happens when there is no more room."""
import json

from .browser import ANSWER, PageCase


class Store(PageCase):
    def test_conversations_survive_a_reload_with_their_tokens(self):
        self.ask("Question one")
        self.page.click("#new")
        self.ask("Question two")
        before = self.texts(ANSWER)
        self.page.reload()
        self.assertEqual(self.texts("#conversations .choose"), ["Question two", "Question one"])
        self.assertEqual(self.text("#title"), "Question two")
        self.assertEqual(self.texts(ANSWER), before)
        self.assertGreater(self.page.locator(".token.drafted").count(), 3)
        self.page.click("text=Question one")
        self.assertEqual(self.texts(".message.user .text"), ["Question one"])

    def test_the_browser_goes_back_to_a_conversation(self):
        self.ask("Question one")
        self.page.click("#new")
        self.ask("Question two")
        self.page.go_back()
        self.until(lambda: self.texts(".message.user .text") == ["Question one"])
        self.page.go_forward()
        self.until(lambda: self.texts(".message.user .text") == ["Question two"])

    def test_rename_and_delete(self):
        self.ask("Question one")
        self.page.hover("#conversations li")
        self.page.click("[aria-label='Rename Question one']")
        self.page.fill("#conversations input", "<b>Mine</b>")
        self.page.press("#conversations input", "Enter")
        self.page.reload()
        self.assertEqual(self.texts("#conversations .choose"), ["<b>Mine</b>"])
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.page.hover("#conversations li")
        self.page.click("[aria-label='Delete <b>Mine</b>']")
        self.assertEqual(self.page.locator("#conversations li").count(), 0)
        self.page.reload()
        self.assertEqual(self.page.locator("#conversations li").count(), 0)

    def test_a_new_name_that_escape_leaves_is_not_taken(self):
        self.ask("Question one")
        self.page.hover("#conversations li")
        self.page.click("[aria-label='Rename Question one']")
        self.page.fill("#conversations input", "Other")
        self.page.press("#conversations input", "Escape")
        self.assertEqual(self.texts("#conversations .choose"), ["Question one"])

    def test_what_was_exported_is_imported(self):
        self.ask("Question one")
        with self.page.expect_download() as download:
            self.page.click("#export")
        exported = json.loads(download.value.path().read_text())
        self.assertEqual([c["title"] for c in exported["conversations"]], ["Question one"])
        answer = self.text(ANSWER)
        self.page.evaluate("localStorage.clear()")
        self.page.goto(self.mock.url)
        self.assertEqual(self.page.locator("#conversations li").count(), 0)
        self.import_text(json.dumps(exported))
        self.page.click("text=Question one")
        self.assertEqual(self.text(ANSWER), answer)
        self.assertGreater(self.page.locator(".token.drafted").count(), 3)
        self.import_text(json.dumps(exported))
        self.assertEqual(self.texts("#conversations .choose"), ["Question one"] * 2, "beside what is there")

    def test_files_of_others_are_refused(self):
        for text, said in [("no JSON", "no conversations of Dovetail"), ("[]", "no conversations of Dovetail"),
                           ('{"format": "dovetail-conversations", "version": 9, "conversations": []}', "has version 9")]:
            self.import_text(text)
            self.assertIn(said, self.text("#notice"))
        self.assertEqual(self.page.locator("#conversations li").count(), 0)

    def test_strange_conversations_in_a_file_do_no_harm(self):
        strange = [None, 5, {}, {"id": "../x", "messages": []}, {"id": "a", "messages": 5},
                   {"id": "b", "title": 5, "system": [], "changed": "x", "messages": [
                       None, {"role": "system", "content": "x"}, {"role": "user", "content": 5},
                       {"role": "user", "content": "kept"}, {"role": "assistant", "content": "<img src=x onerror=1>", "rounds": 5, "timings": "x"}]}]
        self.import_text(json.dumps({"format": "dovetail-conversations", "version": 1, "conversations": strange}))
        self.assertIn("1 conversation imported", self.text("#notice"))
        self.page.click("#conversations .choose")
        self.assertEqual(self.texts(".message.user .text"), ["kept"])
        self.assertEqual(self.texts(ANSWER), ["<img src=x onerror=1>"])

    def test_rounds_of_old_conversations_make_room(self):
        self.ask("An old question")
        self.fill_storage()
        self.page.click("#new")
        self.ask("A new question " + "x" * 400)
        self.assertTrue(self.page.locator("#notice").is_hidden())
        kept = {c["title"][:5]: len(c["messages"][1]["rounds"]) for c in self.run_js("store.js", "return m.loadConversations();")}
        self.assertEqual(kept["An ol"], 0)
        self.assertEqual(len(kept), 2)

    def test_a_full_storage_is_said(self):
        self.fill_storage()
        self.ask("x" * 4000)
        self.assertIn("storage is full", self.text("#notice"))

    def test_tabs_see_each_other(self):
        other = self.new_page()
        other.goto(self.mock.url)
        self.ask("Question one")
        other.wait_for_selector("#conversations li")
        self.assertEqual(other.locator("#conversations .choose").all_inner_texts(), ["Question one"])
        other.click("#conversations .choose")
        self.page.click("#new")
        other.click("text=Edit")
        self.ask("Question two")
        other.wait_for_selector("#conversations >> text=Question two")
        self.assertTrue(other.locator(".message textarea").is_visible(), "what has not changed stays as it is")
        self.page.click("#conversations >> text=Question one")
        self.ask("And more")
        other.wait_for_selector(".message.user >> text=And more")

    def import_text(self, text):
        self.page.set_input_files("#import-file", {"name": "c.json", "mimeType": "application/json", "buffer": text.encode()})
        self.page.wait_for_selector("#notice:visible")

    def fill_storage(self):
        """Leaves less than a hundred characters."""
        self.page.evaluate("""() => {
          let all = "";
          for (let size = 1 << 22; size >= 64; size /= 2) {
            try { for (;;) { localStorage.setItem("filler", all + "x".repeat(size)); all += "x".repeat(size); } } catch {}
          }
        }""")
