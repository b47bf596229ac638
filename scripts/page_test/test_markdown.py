"""Markdown to elements: what it looks like, that a text never becomes HTML, that no text takes long."""
import random

from .browser import PageCase

# Sources and what they become, without the spans of tokens.
SHAPES = [
    ("a *b* **c** ***d*** ~~e~~ `f`", "<p>a <em>b</em> <strong>c</strong> <em><strong>d</strong></em> <del>e</del> <code>f</code></p>"),
    ("snake_case_name 2*3*4 a_b", "<p>snake_case_name 2<em>3</em>4 a_b</p>"),
    ("**open *and `never closed", "<p>**open *and `never closed</p>"),
    ("***a** b*", "<p><em><strong>a</strong> b</em></p>"),
    ("`` a`b `` and \\*no\\*", "<p><code>a`b</code> and *no*</p>"),
    ("one\ntwo", "<p>one<br>two</p>"),
    ("one\n\ntwo", "<p>one</p><p>two</p>"),
    ("# A\n### B ##\n#no", "<h3>A</h3><h5>B</h5><p>#no</p>"),
    ("- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"),
    ("1. a\n2. b\n\n   c", "<ol><li><p>a</p></li><li><p>b</p><p>c</p></li></ol>"),
    ("3) a\n4) b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    ("1. a\n  - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"),
    ("In\n1986. It was", "<p>In<br>1986. It was</p>"),
    ("- [x] done\n- [ ] open", '<ul><li class="task"><input type="checkbox" disabled="" checked="" aria-label="task">done</li>'
                              '<li class="task"><input type="checkbox" disabled="" aria-label="task">open</li></ul>'),
    ("> a\n> > b\n\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"),
    ("a\n\n---\n***", "<p>a</p><hr><hr>"),
    ("[a *b*](https://x.y/z_1) <https://x.y>", '<p><a href="https://x.y/z_1">a <em>b</em></a> <a href="https://x.y">https://x.y</a></p>'),
    ("see https://x.y/a_b_c. (https://x.y)", '<p>see <a href="https://x.y/a_b_c">https://x.y/a_b_c</a>. (<a href="https://x.y">https://x.y</a>)</p>'),
    ("![a cat](https://x.y/cat.png)", '<p><a href="https://x.y/cat.png">a cat</a></p>'),
    ("[x](y) a[0] [1]", "<p>[x](y) a[0] [1]</p>"),
    ("&lt;b&gt; &#x1F980; &nope; &#0;", "<p>&lt;b&gt; 🦀 &amp;nope; \ufffd</p>"),
    ("<b>x</b>", "<p>&lt;b&gt;x&lt;/b&gt;</p>"),
    ("|a|b|\n|:-:|--:|\n|1|2|3|\n|`x`|\nend", '<table><thead><tr><th class="center">a</th><th class="right">b</th></tr></thead><tbody>'
     '<tr><td class="center">1</td><td class="right">2</td></tr><tr><td class="center"><code>x</code></td></tr></tbody></table><p>end</p>'),
    ("```rust\nfn <a>() {\n\n  *b*\n```\nc", "[rust]<pre><code>fn &lt;a&gt;() {\n\n  *b*\n</code></pre><p>c</p>"),
    ("~~~\nnever closed", "[code]<pre><code>never closed\n</code></pre>"),
    ("- a\n  ```\n  b\n  ```", "<ul><li>a[code]<pre><code>b\n</code></pre></li></ul>"),
    ("a\n\n    b\n", "<p>a</p>[code]<pre><code>b\n</code></pre>"),
]

HOSTILE = [
    "<script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 1'>", "<svg/onload=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>", "<a href='javascript:window.pwned=1'>x</a>",
    "[x](javascript:window.pwned=1)", "[x](JaVaScRiPt:window.pwned=1)", "[x](java\tscript:window.pwned=1)",
    "[x](&#106;avascript:window.pwned=1)", "[x](\\javascript:window.pwned=1)", "[x](<javascript:window.pwned=1>)",
    "[x](data:text/html,<script>window.pwned=1</script>)", "[x](vbscript:x)", "[x](//evil.example)", "[x](file:///etc/passwd)",
    "<javascript:window.pwned=1>", "![x](javascript:window.pwned=1)", "[x](https://a.b\" onclick=\"window.pwned=1)",
    "[x](https://a.b 'title\" onmouseover=\"window.pwned=1')", "```\"><script>window.pwned=1</script>\nx\n```",
    "```<img/src=x/onerror=window.pwned=1>\n```", "`<script>window.pwned=1</script>`", "|<script>window.pwned=1</script>|\n|-|\n|<img src=x onerror=window.pwned=1>|",
    "# <script>window.pwned=1</script>", "- <script>window.pwned=1</script>", "> <style>*{display:none}</style>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;", "https://a.b/\"onmouseover=window.pwned=1", "<https://a.b\"onclick=window.pwned=1>",
    "<!--><script>window.pwned=1</script>-->", "<math><mtext></mtext><script>window.pwned=1</script></math>", "\u2028<script>window.pwned=1</script>",
    "\0<script>window.pwned=1</script>", "[<img src=x onerror=window.pwned=1>](https://a.b)",
]

# Texts that a careless parser takes quadratic time for, or more, or a deep tree: repeated, or opened and then closed.
SLOW = ["*a ", "_a ", "**a _b ", "[", "![", "[a](", "](", "[a](<b", "`", "` `` ", "~~a ", "> ", "- ", "  - a\n", "|", "|a|\n|-|\n",
        "<", "&", "\\", "https://", "a**b", "***", "#", "\t", "``` ", "1. ", "(", "[](((((", "*_", "h", "[a](b 'c", "> - "]
NESTED = [("*a ", "b* "), ("**a _b ", "c_ d** "), ("[a ", "](https://a.b)"), ("_a ", "b]"), ("*[", "*](https://a.b)"), ("~~a ", "b~~ "), ("`", "``")]

FAULTS = """
  const allowed = new Set("P H3 H4 H5 H6 HR BLOCKQUOTE UL OL LI INPUT TABLE THEAD TBODY TR TH TD DIV FIGURE FIGCAPTION SPAN BUTTON PRE CODE A EM STRONG DEL BR".split(" "));
  const faults = (place) => [...place.querySelectorAll("*")].flatMap((element) => [
    ...(allowed.has(element.tagName) ? [] : [element.tagName]),
    ...[...element.attributes].filter(({ name }) => /^on|^style$|^src/.test(name)).map(({ name }) => name),
    ...(element.hasAttribute("href") && !/^(https?:|mailto:)/.test(element.protocol) ? [element.href] : []),
  ]);"""
SHOW = "const place = document.createElement('div'); document.body.append(place);"


class Markdown(PageCase):
    def test_shapes(self):
        found = self.run_js("render.js", SHOW + """
          return a.map((source) => {
            place.replaceChildren();
            delete place.shownKeys;
            m.show(place, source, []);
            for (const e of place.querySelectorAll("figure")) e.replaceWith(`[${e.querySelector("span").textContent}]`, e.querySelector("pre"));
            for (const e of place.querySelectorAll("div.table")) e.replaceWith(e.firstChild);
            for (const e of place.querySelectorAll("[target], [tabindex]")) ["target", "rel", "tabindex"].forEach((n) => e.removeAttribute(n));
            return place.innerHTML.replaceAll(' class="left"', "");
          });""", [source for source, _ in SHAPES])
        for (source, expected), html in zip(SHAPES, found, strict=True):
            with self.subTest(source):
                self.assertEqual(html, expected)

    def test_a_text_never_becomes_html(self):
        sources = [*HOSTILE, "\n\n".join(HOSTILE), *(f"**{each}** *x*" for each in HOSTILE)]
        found = self.run_js("render.js", FAULTS + SHOW + """
          const all = a.map((source) => { m.show(place, source, []); return faults(place); });
          await new Promise((done) => setTimeout(done, 100));
          return [all, window.pwned];""", sources)
        self.assertEqual(found, [[[]] * len(sources), None])

    def test_the_check_for_html_finds_some(self):
        bad = ["<script></script>", "<p onclick=x></p>", "<a href='javascript:x'></a>", "<a href='data:x'></a>", "<img src=x>", "<p style=x></p>"]
        page = self.context.new_page()
        page.goto("about:blank")
        found = page.evaluate(f"(a) => {{ {FAULTS} return a.map((html) => {{ document.body.innerHTML = html; return faults(document.body).length > 0; }}); }}", bad)
        self.assertEqual(found, [True] * len(bad))

    def test_links_tell_the_other_side_nothing(self):
        rel = self.run_js("render.js", SHOW + "m.show(place, 'https://x.y/z', []); return place.querySelector('a').rel;")
        self.assertEqual(rel, "noopener noreferrer nofollow")

    def test_no_text_takes_long_or_nests_deep(self):
        sources = [piece * (60_000 // len(piece)) for piece in SLOW] + [opened * 10_000 + closed * 10_000 for opened, closed in NESTED]
        for source in sources:
            with self.subTest(source[:20]):
                ms, depth = self.run_js("render.js", SHOW + """
                  const start = performance.now();
                  m.show(place, a, []);
                  const ms = performance.now() - start;
                  const depth = (element) => 1 + Math.max(0, ...Array.from(element.children).slice(0, 1000).map(depth));
                  const found = [ms, depth(place)];
                  place.remove();
                  return found;""", source)
                self.assertLess(ms, 2500)
                self.assertLess(depth, 100)

    def test_tokens_keep_their_places(self):
        """Each character is a token of its own, whose number is its place: what is shown must be the source there."""
        sources = [source for source, _ in SHAPES ] + HOSTILE
        sources = [source for source in sources if "&" not in source]  # "&lt;" is shown as one that is not there
        draw = random.Random(7)
        sources += ["".join(draw.choices(["*", "**", "_", "`", "[", "](https://a.b)", "\n", "\n\n", "> ", "- ", "1. ", "a b", "| ", "\\", "é🦀", "    ", "```\n"], k=60))
                    for _ in range(300)]
        wrong = self.run_js("render.js", SHOW + """
          const wrong = [];
          let count = 0;
          for (const source of a) {
            place.replaceChildren();
            delete place.shownKeys;
            m.show(place, source, Array.from({ length: source.length }, (_, i) => ({ from: i, to: i + 1, drafted: i % 2 === 0, round: i })));
            for (const token of place.querySelectorAll(".token")) {
              count++;
              if (token.textContent !== source[token.dataset.round]) wrong.push([source, token.dataset.round, token.textContent]);
              if (token.classList.contains("drafted") !== (token.dataset.round % 2 === 0)) wrong.push([source, "drafted"]);
            }
          }
          return [count > 5000, wrong.slice(0, 3)];""", sources)
        self.assertEqual(wrong, [True, []])

    def test_a_growing_text_looks_like_the_whole_one(self):
        source = "\n\n".join(source for source, _ in SHAPES)
        same, kept = self.run_js("render.js", SHOW + """
          const whole = document.createElement("div"), spans = Array.from({ length: a.length }, (_, i) => ({ from: i, to: i + 1, drafted: true, round: i }));
          m.show(whole, a, spans);
          for (let end = 0; end <= a.length; end += 3) m.show(place, a.slice(0, end), spans.slice(0, end));
          const first = place.firstChild;
          m.show(place, a, spans);
          return [place.innerHTML === whole.innerHTML, first === place.firstChild];""", source)
        self.assertEqual((same, kept), (True, True))
