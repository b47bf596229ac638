#!/usr/bin/env python3
"""Writes tests/data/templates/*.json: what Jinja2, set up as transformers does it, makes of the templates there, for
src/text/jinja/tests/references.rs.

    pip install jinja2==3.1.6
    python scripts/make_template_reference.py

`*.jinja` are chat templates of our own in the style of each family; each renders each conversation of CONVERSATIONS.
`constructs.txt` has templates of one construct each. Where Jinja2 fails, the reference names the stage: `{"fails": "parse"}`
or `{"fails": "render"}`. Python 3.11 on Linux, whose `strftime` is glibc's, gives the same output on every run.
"""

import datetime
import glob
import json
import os
import sys

import environment

if __name__ == "__main__":
    environment.help(__doc__)

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "templates")
NOW = datetime.datetime(2024, 2, 5, 15, 4, 9, 12345)


# ---- Jinja2 as transformers sets it up


class Generation(Extension):
    """`{% generation %}` marks what the model writes; the mark itself changes nothing."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("written"), [], [], body).set_lineno(line)

    def written(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals.update(raise_exception=raise_exception, strftime_now=lambda format: NOW.strftime(format))
    return made


ENVIRONMENT = environment()


def rendered(source, variables):
    """The text, or the stage that fails."""
    try:
        template = ENVIRONMENT.from_string(source)
    except Exception as error:  # Python, too, refuses what Jinja2 compiles to
        # Jinja2 looks names of filters and tests up before it renders; ours does so when it comes to them.
        is_name = str(error).startswith(("No filter named", "No test named"))
        return {"fails": "render" if is_name else "parse"}
    try:
        return template.render(**variables)
    except Exception:  # Python's errors are as good as Jinja2's
        return {"fails": "render"}


def n_texts(renderings):
    return sum(isinstance(rendering, str) for rendering in renderings)


# ---- Conversations

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city, in \"plain\" words & <b>numbers</b>.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name, as in Zürich or 東京."},
                "days": {"type": "integer", "minimum": 1, "maximum": 14, "default": 3},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            },
            "required": ["city"],
        },
        "return": {"type": "object", "description": "Degrees by day."},
    },
}
ORDER = {
    "type": "function",
    "function": {
        "name": "place_order",
        "description": "Orders goods.\nAsk first.",
        "parameters": {
            "type": "object",
            "properties": {
                "items": {
                    "type": "array",
                    "description": "What is ordered.",
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "price": {"type": ["number", "null"], "default": 1.5}},
                        "required": ["name"],
                    },
                },
                "tags": {"type": "array", "items": {"type": "string"}},
                "gift": {"type": "boolean", "default": False, "nullable": True},
                "extra": {"oneOf": [{"type": "string"}, {"type": "number"}]},
                "free": {},
            },
            "required": ["items", "tags"],
        },
    },
}
NOTHING = {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}
TOOLS = [WEATHER, ORDER, NOTHING]


def message(role, content, **others):
    return {"role": role, "content": content, **others}


def call(name, arguments, id="a1b2c3d4e"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


SYSTEM = message("system", "Be brief.")
HELLO = message("user", "Hello there!")
BYE = message("user", " Bye <b>&amp;</b> \"you\"\n")
THOUGHT = message("assistant", "Four.", reasoning_content="Two and two.\nSo: four.")
ASK = message("user", "Weather in Zürich?")
CALL = message("assistant", "", tool_calls=[call("get_weather", {"city": "Zürich", "days": 2, "unit": None})])
RESULT = message("tool", '{"degrees": [21.5, 19]}', name="get_weather", tool_call_id="a1b2c3d4e")
SAID = message("assistant", "21.5 degrees 🌤")
GENERATE = {"add_generation_prompt": True}
LONG_CALL = call("place_order", {"items": [{"name": "<tea>", "price": 2.5}], "tags": [], "gift": True, "note": "a\nb"}, "b2c3d4e5f")

# Messages, and variables beside them.
CONVERSATIONS = {
    "user": ([HELLO], GENERATE),
    "system": ([SYSTEM, HELLO], GENERATE),
    "turns": ([SYSTEM, HELLO, message("assistant", "  Hi! 👋🏽 \n"), BYE], GENERATE),
    "turns, no prompt": ([HELLO, message("assistant", "Hi."), BYE, message("assistant", "Bye.")], {"add_generation_prompt": False}),
    "prompt not said": ([SYSTEM, HELLO], {}),
    "line ends": ([message("system", "a\r\nb"), message("user", "\r\n c\r\n\td \r")], GENERATE),
    "empty": ([message("system", ""), message("user", ""), message("assistant", ""), message("user", " \n")], GENERATE),
    "no message": ([], GENERATE),
    "system alone": ([SYSTEM], GENERATE),
    "developer": ([message("developer", "Use metres."), HELLO], GENERATE),
    "system in the middle": ([HELLO, message("assistant", "Hi."), SYSTEM, BYE], GENERATE),
    "two users": ([HELLO, BYE], GENERATE),
    "assistant first": ([message("assistant", "Hi."), HELLO], GENERATE),
    "null content": ([HELLO, message("assistant", None), BYE], GENERATE),
    "no content": ([HELLO, {"role": "assistant"}, BYE], GENERATE),
    "unknown role": ([message("critic", "No."), HELLO], GENERATE),
    "parts": ([message("system", parts("Be ", "brief.")), message("user", parts("One.", " Two."))], GENERATE),
    "image": ([message("user", [{"type": "image"}, *parts(" What is it?")])], GENERATE),
    "thinking": ([SYSTEM, HELLO, THOUGHT, BYE], {**GENERATE, "enable_thinking": True}),
    "no thinking": ([SYSTEM, HELLO, THOUGHT, BYE], {**GENERATE, "enable_thinking": False}),
    "thinking not said": ([HELLO, THOUGHT], {"add_generation_prompt": False}),
    "thought in the text": ([HELLO, message("assistant", "<think>\nHm.\n</think>\n\nYes."), BYE], GENERATE),
    "thought last": ([HELLO, message("assistant", "<think>Hm.</think>Yes.")], {"add_generation_prompt": False}),
    "budget": ([SYSTEM, HELLO], {**GENERATE, "thinking_budget": 512, "reasoning_effort": "high", "enable_thinking": True}),
    "no budget": ([HELLO], {**GENERATE, "thinking_budget": 0, "reasoning_effort": "low", "model_identity": "You are Ours."}),
    "tools": ([SYSTEM, ASK], {**GENERATE, "tools": TOOLS}),
    "tools, no system": ([ASK], {**GENERATE, "tools": [WEATHER], "date_string": "01 Jan 2030", "tools_in_user_message": False}),
    "no tools": ([ASK], {**GENERATE, "tools": []}),
    "call": ([ASK, CALL], {"add_generation_prompt": False, "tools": [WEATHER]}),
    "result": ([SYSTEM, ASK, CALL, RESULT], {**GENERATE, "tools": [WEATHER]}),
    "answer": ([ASK, CALL, RESULT, SAID, BYE], {**GENERATE, "tools": [WEATHER], "enable_thinking": False}),
    "two calls": (
        [ASK, message("assistant", "Both.", tool_calls=[CALL["tool_calls"][0], LONG_CALL], reasoning_content="Two."),
         RESULT, message("tool", parts("done"), name="place_order", tool_call_id="b2c3d4e5f")],
        {**GENERATE, "tools": [WEATHER, ORDER]},
    ),
    "arguments as text": (
        [ASK, message("assistant", None, tool_calls=[call("get_weather", '{"city": "東京"}')]), RESULT],
        {**GENERATE, "tools": [WEATHER], "builtin_tools": ["search"]},
    ),
    "documents": ([ASK], {**GENERATE, "documents": [{"title": "Alps", "text": "High.", "doc_id": 7}, {"title": "Sea", "text": "Low."}]}),
}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def variables(messages, others):
    return {"messages": messages, "tools": None, "documents": None, **SPECIAL, **others}


# What constructs are rendered with.
CONSTRUCTS = variables(
    [message("system", " Be brief. "), message("user", "Hi there"), message("assistant", "<think>\nx\n</think>\n\nyes "),
     message("user", 'Bye "é" <b>\r\n')],
    {**GENERATE, "tool": WEATHER["function"]},
)


# ---- Files


def write(name, value):
    with open(os.path.join(DATA, name), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=0, ensure_ascii=False)
        file.write("\n")


def families():
    conversations = {name: variables(*of) for name, of in CONVERSATIONS.items()}
    renderings = {}
    for path in sorted(glob.glob(os.path.join(DATA, "*.jinja"))):
        with open(path, encoding="utf-8") as file:
            source = file.read()
        ENVIRONMENT.from_string(source)
        name = os.path.basename(path)
        renderings[name] = {conversation: rendered(source, of) for conversation, of in conversations.items()}
        texts = n_texts(renderings[name].values())
        print(f"{name}: {texts} texts, {len(conversations) - texts} failures", file=sys.stderr)
    write("families.json", {"conversations": conversations, "renderings": renderings})


def constructs():
    with open(os.path.join(DATA, "constructs.txt"), encoding="utf-8", newline="\n") as file:
        lines = [line.removesuffix("\n") for line in file]
    sources = [line.replace("⏎", "\n").replace("␍", "\r") for line in lines if not line.startswith("# ")]
    renderings = [rendered(source, CONSTRUCTS) for source in sources]
    texts = n_texts(renderings)
    print(f"constructs: {texts} texts, {len(renderings) - texts} failures", file=sys.stderr)
    write("constructs.json", {"variables": CONSTRUCTS, "renderings": renderings})


if __name__ == "__main__":
    families()
    constructs()
