"""Pictures of the page with a made-up answer, to be looked at: light, dark, on a phone."""
import random
import re

from . import browser, mock

ANSWER = """A **ring buffer** is a *fixed* array whose `head` and `tail` wrap around. Three uses:

1. **Audio**: the sound card reads while the program writes.
2. **Logs**
   - the last lines are kept
   - old ones are dropped
3. **Queues** between threads, see <https://example.org/spsc>.

| operation | cost | note |
|:--|--:|---|
| push | O(1) | never allocates |
| pop | O(1) | `None` if empty |

> Nothing is moved, only two counters change.

```rust
fn push(&mut self, value: T) -> Result<(), T> {
    let next = (self.head + 1) % self.slots.len();
    if next == self.tail { return Err(value); } // full
    self.slots[self.head] = value;
    Ok(())
}
```
"""
QUESTION = "Name three uses of a ring buffer."
SIZES = {
    "light": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 800}, "color_scheme": "light", "has_touch": True, "is_mobile": True},
}


def take(folder):
    """Writes a picture of each view at each size."""
    folder.mkdir(parents=True, exist_ok=True)
    server = mock.Mock()
    server.answer = answer
    for name, size in SIZES.items():
        context = browser.chromium().new_context(**size)
        page = context.new_page()

        def picture(view, page=page, name=name):
            page.wait_for_timeout(200)
            page.screenshot(path=folder / f"{name}-{view}.png")

        page.goto(server.url)
        picture("start")
        page.fill("#input", QUESTION)
        page.press("#input", "Enter")
        page.wait_for_selector("#send:visible")
        page.locator(".token.drafted").nth(20).hover()
        picture("answer")
        if name == "phone":
            page.click("#show-panel")
        picture("rounds")
        page.click("#compare")
        page.wait_for_selector(".compare table")
        page.eval_on_selector("#panel-body", "(body) => body.scrollTo(0, 9999)")
        picture("compare")
        if name == "phone":
            page.click("#hide-panel")
            page.click("#show-sidebar")
            picture("conversations")
            page.press("body", "Escape")
        page.click("#show-settings")
        picture("settings")
        context.close()
    server.server.shutdown()


def answer(body):
    """The answer in rounds of one to five tokens, or of one where drafting is off."""
    draw = random.Random(3)
    tokens = re.findall(r"\s?\w+|\s|[^\w\s]", ANSWER)
    given = []
    while tokens:
        count = 1 if body["dovetail"]["drafting"] == "off" else draw.choice([1, 1, 2, 2, 3, 3, 4, 5])
        given.append(tokens[:count])
        tokens = tokens[count:]
    drafted = 0 if body["dovetail"]["drafting"] == "off" else 300
    speed = 41.3 if drafted else 23.8
    timings = {"predicted_n": 278, "predicted_per_second": speed, "draft_n": drafted, "draft_n_accepted": drafted // 2}
    yield mock.event(mock.delta(reasoning_content="Three uses are asked for."))
    yield from mock.stream(mock.rounds(*given), timings=timings)
