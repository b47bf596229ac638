//! What a chat template gets of what agents send: conversations with tools, thoughts, calls and their results.

#![cfg(unix)]

mod common;
#[path = "common/server.rs"]
mod server;
#[path = "common/tools.rs"]
mod tools;

use serde_json::{Value, json};
use tools::{anthropic, chat, openai_tool, refused, responses, saying, start, with};

/// A conversation with calls, in OpenAI's form.
fn conversation() -> Value {
    let call = |id: &str, city: &str| {
        let arguments = json!({ "city": city, "days": 2 });
        json!({ "id": id, "type": "function", "function": { "name": "weather", "arguments": arguments } })
    };
    json!({
        "tools": [openai_tool()],
        "messages": [
            { "role": "system", "content": "Be brief.\nAnd kind." },
            { "role": "user", "content": "What weather?\n\nTell me." },
            {
                "role": "assistant", "content": "I look.", "reasoning_content": "Two calls.",
                "tool_calls": [call("aaaaaaaa1", "Rome"), call("aaaaaaaa2", "Oslo")],
            },
            { "role": "tool", "tool_call_id": "aaaaaaaa1", "name": "weather", "content": "Sun.\nWind." },
            { "role": "tool", "tool_call_id": "aaaaaaaa2", "name": "weather", "content": "Error: no such city" },
            { "role": "user", "content": "And now?" },
        ],
    })
}

#[test]
fn a_conversation_with_calls_is_the_same_in_each_interface() {
    let server = start();
    let (text, n_tokens) = chat(&server, &conversation());
    let cached = json!({ "type": "ephemeral" });
    let use_of = |id: &str, city: &str| {
        let input = json!({ "city": city, "days": 2 });
        json!({ "type": "tool_use", "id": id, "name": "weather", "input": input })
    };
    let usual = json!({ "max_tokens": 12, "max_output_tokens": 12, "ignore_eos": true });
    let asked = with(
        anthropic(&usual),
        &json!({
            "system": [
                { "type": "text", "text": "Be brief." },
                { "type": "text", "text": "And kind.", "cache_control": cached },
            ],
            "messages": [
                { "role": "user", "content": "What weather?" },
                { "role": "user", "content": [{ "type": "text", "text": "Tell me." }] },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "Two calls.", "signature": "s" },
                    { "type": "redacted_thinking", "data": "x" },
                    { "type": "text", "text": "I look." },
                    use_of("aaaaaaaa1", "Rome"), use_of("aaaaaaaa2", "Oslo"),
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "aaaaaaaa1",
                      "content": [{ "type": "text", "text": "Sun." }, { "type": "text", "text": "Wind." }] },
                    { "type": "text", "text": "And now?", "cache_control": cached },
                    { "type": "tool_result", "tool_use_id": "aaaaaaaa2", "content": "no such city", "is_error": true },
                ] },
            ],
        }),
    );
    let answer = server.post("/v1/messages", &asked);
    assert_eq!(
        answer.json()["content"],
        json!([{ "type": "text", "text": text }]),
        "{}",
        answer.body
    );
    let count = server.post("/v1/messages/count_tokens", &asked).json();
    assert_eq!(count["input_tokens"], n_tokens);

    let call = |id: &str, city: &str| {
        let arguments = json!({ "city": city, "days": 2 }).to_string();
        json!({ "type": "function_call", "id": "fc_1", "call_id": id, "name": "weather", "arguments": arguments })
    };
    let asked = with(
        responses(&usual),
        &json!({
            "instructions": "Be brief.\nAnd kind.",
            "input": [
                { "type": "message", "role": "user", "content": "What weather?" },
                { "role": "user", "content": [{ "type": "input_text", "text": "Tell me." }] },
                { "type": "reasoning", "summary": [{ "type": "summary_text", "text": "Short." }],
                  "encrypted_content": "x", "content": [{ "type": "reasoning_text", "text": "Two calls." }] },
                { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "I look." }] },
                call("aaaaaaaa1", "Rome"), call("aaaaaaaa2", "Oslo"),
                { "type": "function_call_output", "call_id": "aaaaaaaa1",
                  "output": [{ "type": "input_text", "text": "Sun.\nWind." }] },
                { "type": "function_call_output", "call_id": "aaaaaaaa2", "output": "Error: no such city" },
                { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "And now?" }] },
            ],
        }),
    );
    let answer = server.post("/v1/responses", &asked).json();
    assert_eq!(answer["output"][0]["content"][0]["text"], text);
    assert_eq!(answer["usage"]["input_tokens"], n_tokens);
}

/// Turns of an assistant that follow each other stay apart; what it thinks begins one.
#[test]
fn items_of_an_assistant_are_as_many_messages_as_there_are_turns() {
    let server = start();
    let said = |text: &str| json!({ "type": "message", "role": "assistant", "content": text });
    let thought =
        json!({ "type": "reasoning", "content": [{ "type": "reasoning_text", "text": "Hm." }] });
    let user = json!({ "role": "user", "content": "a" });
    let input = json!([user, said("One."), said("Two."), thought, said("Three."), user]);
    let fields = json!({ "input": input, "tools": [], "max_output_tokens": 1 });
    let answer = server.post("/v1/responses", &responses(&fields)).json();
    let message = |text: &str| json!({ "role": "assistant", "content": text });
    let third = with(message("Three."), &json!({ "reasoning_content": "Hm." }));
    let messages = json!([user, message("One."), message("Two."), third, user]);
    let (_, n_tokens) = chat(&server, &json!({ "messages": messages }));
    assert_eq!(answer["usage"]["input_tokens"], n_tokens);
}

#[test]
fn what_is_no_text_is_refused_by_its_type() {
    let server = start();
    let image = json!([{ "type": "image", "source": {} }]);
    for content in [
        image.clone(),
        json!([{ "type": "tool_result", "tool_use_id": "aaaaaaaa1", "content": image }]),
    ] {
        let messages = json!([{ "role": "user", "content": content }]);
        for path in ["/v1/messages", "/v1/messages/count_tokens"] {
            let (status, message) =
                refused(&server.post(path, &anthropic(&json!({ "messages": messages }))));
            assert!(status == 400 && message.contains("\"image\""), "{message}");
        }
    }
    for block in [json!({ "type": "text" }), json!({ "type": "tool_use", "id": "a" }), json!(5)] {
        let messages = json!([{ "role": "assistant", "content": [block] }]);
        let (status, message) =
            refused(&server.post("/v1/messages", &anthropic(&json!({ "messages": messages }))));
        assert!(status == 400 && message.contains("messages"), "{message}");
    }
    for item in [
        json!({ "type": "function_call", "name": "f" }),
        json!({ "type": "function_call_output", "call_id": "a", "output": [{ "type": "input_image" }] }),
        json!({ "type": "message", "content": "a" }),
        json!({ "type": "web_search_call" }),
    ] {
        let answer = server.post("/v1/responses", &responses(&json!({ "input": [item] })));
        assert_eq!(answer.status, 400, "{item}: {}", answer.body);
    }
}

/// A function as a tool of chat completions.
fn function(name: &str, description: Option<&str>, parameters: &Value) -> Value {
    let mut function = json!({ "name": name });
    if let Some(description) = description {
        function["description"] = json!(description);
    }
    function["parameters"] = parameters.clone();
    json!({ "type": "function", "function": function })
}

/// The shape of what Claude Code sends: a system text in blocks behind a line for bookkeeping, tools of several kinds, a
/// turn that goes on behind a result.
#[test]
fn a_request_of_claude_codes_shape_is_answered() {
    let server = start();
    let cached = json!({ "type": "ephemeral", "ttl": "1h" });
    let asked = |bookkeeping: &str| {
        json!({
            "model": "claude-x", "max_tokens": 32000, "stream": true, "temperature": 1, "stop_sequences": null,
            "system": [
                { "type": "text", "text": bookkeeping },
                { "type": "text", "text": "You help with code.", "cache_control": cached },
                { "type": "text", "text": "Answer in a few words.", "cache_control": cached },
            ],
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "<system-reminder>\nThe date is known.\n</system-reminder>\n" },
                    { "type": "text", "text": "List the files." },
                ] },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "I need ls.", "signature": "" },
                    { "type": "tool_use", "id": "a1b2c3d4e", "name": "Bash",
                      "input": { "command": "ls", "description": "Lists" } },
                ] },
                { "role": "user", "content": [
                    { "tool_use_id": "a1b2c3d4e", "type": "tool_result", "content": "a.rs\nb.rs",
                      "is_error": false, "cache_control": cached },
                ] },
            ],
            "tools": [
                { "name": "Bash", "description": "Runs a command.", "eager_input_streaming": true,
                  "input_schema": { "$schema": "x", "type": "object", "required": ["command"],
                                    "properties": { "command": { "type": "string" } } } },
                { "type": "custom", "name": "Read", "description": "Reads a file.",
                  "input_schema": { "type": "object", "properties": {} } },
                { "type": "web_search_20250305", "name": "web_search", "max_uses": 8 },
            ],
            "tool_choice": { "type": "auto" },
            "metadata": { "user_id": "user_session" },
            "thinking": { "type": "enabled", "budget_tokens": 31999 },
            "context_management": { "edits": [{ "type": "clear_thinking_20251015", "keep": "all" }] },
            "output_config": { "effort": "high" },
            "betas": ["claude-code-20250219", "interleaved-thinking-2025-05-14"],
        })
    };
    let send = |body: &Value| {
        let headers = "anthropic-version: 2023-06-01\r\nanthropic-beta: claude-code-20250219,oauth-2025-04-20\r\n\
                       x-app: cli\r\nAuthorization: Bearer none\r\nUser-Agent: claude-cli/2.1.0 (external, cli)\r\n";
        server::read(server.send("POST", "/v1/messages?beta=true", headers, &body.to_string()))
    };
    let answer = "The files are a.rs and b.rs.";
    let first = asked("x-anthropic-billing-header: cc_version=2.1.0; cch=1234;");
    let events = send(&with(first.clone(), &saying(answer))).named_events();
    let text = events.iter().filter_map(|(_, event)| event["delta"]["text"].as_str());
    assert_eq!(text.collect::<String>(), answer);
    let usage = |events: &[(String, Value)]| events[events.len() - 2].1["usage"].clone();
    let count = server.post("/v1/messages/count_tokens?beta=true", &first).json();
    let sum = usage(&events)["input_tokens"].as_u64().unwrap()
        + usage(&events)["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(count["input_tokens"], sum);
    // The next request has another line for bookkeeping, and yet the same prompt.
    let next = asked("x-anthropic-billing-header: cc_version=2.1.0; cch=98765;");
    let next = usage(&send(&with(next, &saying(answer))).named_events());
    assert_eq!(next["cache_read_input_tokens"].as_u64().unwrap() + 1, sum, "{next}");
    // Templates get the tools that its client runs, and no others.
    let prompt = json!({
        "tools": [
            function("Bash", Some("Runs a command."), &first["tools"][0]["input_schema"]),
            function("Read", Some("Reads a file."), &first["tools"][1]["input_schema"]),
        ],
        "messages": [
            { "role": "system", "content": "You help with code.\nAnswer in a few words." },
            { "role": "user",
              "content": "<system-reminder>\nThe date is known.\n</system-reminder>\n\nList the files." },
            { "role": "assistant", "content": "", "reasoning_content": "I need ls.", "tool_calls": [{
                "id": "a1b2c3d4e", "type": "function",
                "function": { "name": "Bash", "arguments": { "command": "ls", "description": "Lists" } },
            }] },
            { "role": "tool", "name": "Bash", "tool_call_id": "a1b2c3d4e", "content": "a.rs\nb.rs" },
        ],
        "chat_template_kwargs": { "enable_thinking": true },
    });
    assert_eq!(chat(&server, &prompt).1, json!(sum));
    let schema = json!({ "type": "json_schema", "schema": { "enum": ["red"] } });
    let fields = json!({ "output_config": { "format": schema }, "stream": false, "tools": null });
    let answer = send(&with(first, &fields)).json();
    assert_eq!(answer["content"], json!([{ "type": "text", "text": "\"red\"" }]));
}

/// The shape of what Codex sends: tools of many kinds, some in namespaces, and items of earlier turns.
#[test]
fn a_request_of_codexs_shape_is_answered() {
    let server = start();
    let command = json!({ "type": "object", "properties": { "cmd": { "type": "string" } }, "required": ["cmd"] });
    let named = |name: &str, description: &str| {
        json!({
            "type": "function", "name": name, "description": description, "strict": false, "parameters": command,
        })
    };
    let said = |role: &str, text: &str| {
        json!({
            "type": "message", "role": role, "content": [{ "type": "input_text", "text": text }],
        })
    };
    let search = named("search", "Searches.");
    let grammar = json!({ "type": "grammar", "syntax": "lark", "definition": "start: /.+/" });
    let asked = json!({
        "model": "tiny", "instructions": "You are an agent.", "stream": true, "store": false,
            "parallel_tool_calls": true,
        "include": ["reasoning.encrypted_content"], "reasoning": { "effort": "medium", "summary": "auto" },
        "prompt_cache_key": "0190", "text": { "verbosity": "low" }, "tool_choice": "auto", "service_tier": "priority",
        "client_metadata": { "x-codex-installation-id": "1" },
        "tools": [
            named("exec_command", "Runs."),
            { "type": "custom", "name": "apply_patch", "description": "Edits files.", "format": grammar },
            { "type": "web_search", "external_web_access": true }, { "type": "local_shell" }, { "type": "tool_search" },
            { "type": "namespace", "name": "mcp__docs", "description": "Docs.", "tools": [search] },
        ],
        "input": [
            said("developer", "<permissions>"),
            said("user", "<environment_context>"),
            said("user", "Fix it."),
            { "type": "reasoning", "summary": [], "content": null, "encrypted_content": null },
            { "type": "function_call", "name": "search", "namespace": "mcp__docs",
              "arguments": "{\"cmd\":\"x\"}", "call_id": "aaaaaaaa1" },
            { "type": "function_call_output", "call_id": "aaaaaaaa1", "output": "found" },
            { "type": "custom_tool_call", "status": "completed", "call_id": "aaaaaaaa2",
              "name": "apply_patch", "input": "*** Begin" },
            { "type": "custom_tool_call_output", "call_id": "aaaaaaaa2", "output": "Success." },
            { "type": "additional_tools", "tools": [
                { "type": "namespace", "name": "more", "tools": [{ "type": "custom", "name": "exec" }] },
            ] },
        ],
    });
    let calls = "<tool_call>\n{\"name\": \"mcp__docs__search\", \"arguments\": {\"cmd\": \"y\"}}\n</tool_call>\n\
                 <tool_call>\n{\"name\": \"apply_patch\", \"arguments\": {\"input\": \"*** End\\n\"}}\n</tool_call>\n\
                 <tool_call>\n{\"name\": \"more__exec\", \"arguments\": {\"input\": \"1\"}}\n</tool_call>";
    let headers = "originator: codex_cli_rs\r\nsession_id: 1\r\nAccept: text/event-stream\r\n";
    let body = with(asked.clone(), &saying(calls)).to_string();
    let events = server::read(server.send("POST", "/v1/responses", headers, &body)).named_events();
    let done = events.iter().filter(|(name, _)| name == "response.output_item.done");
    let items: Vec<&Value> = done.map(|(_, event)| &event["item"]).collect();
    let short = |item: &Value| {
        json!([item["type"], item["namespace"], item["name"], item["arguments"], item["input"]])
    };
    let expected = [
        json!(["function_call", "mcp__docs", "search", "{\"cmd\":\"y\"}", null]),
        json!(["custom_tool_call", null, "apply_patch", null, "*** End\n"]),
        json!(["custom_tool_call", "more", "exec", null, "1"]),
    ];
    assert_eq!(items.into_iter().map(short).collect::<Vec<_>>(), expected);
    let input =
        events.iter().find(|(name, _)| name == "response.custom_tool_call_input.done").unwrap();
    assert_eq!(input.1["input"], "*** End\n");
    assert_eq!(events.last().unwrap().0, "response.completed");

    let free = json!({ "type": "object", "properties": { "input": { "type": "string" } }, "required": ["input"] });
    let call = |id: &str, name: &str, arguments: Value| {
        json!({
            "role": "assistant", "content": "",
            "tool_calls": [{ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } }],
        })
    };
    let patch = "Edits files.\nThe input is a text of this grammar (lark):\nstart: /.+/";
    let prompt = json!({
        "tools": [
            function("exec_command", Some("Runs."), &command), function("apply_patch", Some(patch), &free),
            function("mcp__docs__search", Some("Searches."), &command), function("more__exec", None, &free),
        ],
        "messages": [
            { "role": "system", "content": "You are an agent." },
            { "role": "developer", "content": "<permissions>" },
            { "role": "user", "content": "<environment_context>\n\nFix it." },
            call("aaaaaaaa1", "mcp__docs__search", json!({ "cmd": "x" })),
            { "role": "tool", "name": "mcp__docs__search", "tool_call_id": "aaaaaaaa1", "content": "found" },
            call("aaaaaaaa2", "apply_patch", json!({ "input": "*** Begin" })),
            { "role": "tool", "name": "apply_patch", "tool_call_id": "aaaaaaaa2", "content": "Success." },
        ],
        "chat_template_kwargs": { "reasoning_effort": "medium" },
    });
    let (text, n_tokens) = chat(&server, &prompt);
    let usual =
        json!({ "stream": false, "max_output_tokens": 12, "temperature": 0, "ignore_eos": true });
    let answer = server.post("/v1/responses", &with(asked, &usual)).json();
    assert_eq!(answer["usage"]["input_tokens"], n_tokens);
    assert_eq!(answer["output"][0]["content"][0]["text"], text);
}
