//! Renders messages as a prompt, with the model's own chat template or a well-known one.
//!
//! Templates are Jinja programs inside the model file, written for Hugging Face's environment. They are not trusted:
//! they see only the messages, and their steps, memory and stack are bounded (`jinja`).
//!
//! Messages may contain the texts of control tokens. A template copies them into the prompt, where they become those
//! tokens, as in other programs.

use std::time::SystemTime;

use jiff::ZonedDateTime;
use jiff::civil::DateTime;

use super::jinja::{Data, Template, TemplateError};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::gguf::Metadata;
use crate::setting::{Advice, Setting};

/// Templates known by name. They use only roles and contents.
const NAMED: &[(&str, &str)] = &[
    (
        "chatml",
        r"{% for message in messages %}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{%- endif %}",
    ),
    (
        "llama2",
        r"{% set begin = 0 %}
{% set system = '' %}
{% if messages and messages[0].role == 'system' %}
{% set begin = 1 %}
{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}
{% endif %}
{% for message in messages[begin:] %}
{% if message.role == 'user' %}
{{ bos_token + '[INST] ' + (system if loop.first else '') + message.content + ' [/INST]' }}
{%- else %}
{{ ' ' + message.content + ' ' + eos_token }}
{%- endif %}
{% endfor %}",
    ),
    (
        "llama3",
        r"{{ bos_token }}
{%- for message in messages %}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}",
    ),
    (
        "vicuna",
        r"{% for message in messages %}
{% if message.role == 'system' %}
{{ message.content + '\n\n' }}
{%- elif message.role == 'user' %}
{{ 'USER: ' + message.content + '\n' }}
{%- else %}
{{ 'ASSISTANT: ' + message.content + eos_token + '\n' }}
{%- endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ 'ASSISTANT:' }}
{%- endif %}",
    ),
    (
        "zephyr",
        r"{% for message in messages %}
{{ '<|' + message.role + '|>\n' + message.content + eos_token + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>\n' }}
{%- endif %}",
    ),
];

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text of the message.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// Renders messages as the text that a model was trained on.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    template: Template,
    /// The time that `strftime_now` writes; `None` for the current time.
    now: Option<SystemTime>,
}

impl ChatTemplate {
    /// The template inside a model; `None` if it has none or an empty one.
    ///
    /// # Errors
    /// If it cannot be parsed. The model can still be used for all but chat.
    pub fn from_gguf(metadata: &Metadata) -> Result<Option<Self>> {
        let source = metadata.get_str("tokenizer.chat_template")?;
        source.filter(|source| !source.trim().is_empty()).map(Self::from_source).transpose()
    }

    /// A template from its source (`--chat-template-file`).
    ///
    /// # Errors
    /// If it cannot be parsed.
    pub fn from_source(source: &str) -> Result<Self> {
        Self::at_time(source, None)
    }

    /// A template from its source, with a fixed time for templates that show the date.
    ///
    /// # Errors
    /// If it cannot be parsed.
    pub fn from_source_at(source: &str, now: SystemTime) -> Result<Self> {
        Self::at_time(source, Some(now))
    }

    /// A well-known template by its name (`--chat-template`).
    ///
    /// # Errors
    /// If the name is unknown; the message lists the known ones.
    pub fn named(name: &str) -> Result<Self> {
        let Some((_, source)) = NAMED.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = Self::names().collect();
            let what =
                format!("chat template `{name}` is not known; known are {}", known.join(", "));
            let refusal = Setting::ChatTemplate.with(name).refuse_since(what);
            return Err(refusal.or(Advice::Replace(Setting::ChatTemplate)).into());
        };
        Self::from_source(source)
    }

    /// A well-known template by its name, or a template from its source: a text with Jinja's braces is source.
    ///
    /// # Errors
    /// Those of [`named`](Self::named) and [`from_source`](Self::from_source).
    pub fn given(name_or_source: &str) -> Result<Self> {
        let jinja = ["{{", "{%"].iter().any(|braces| name_or_source.contains(braces));
        if jinja { Self::from_source(name_or_source) } else { Self::named(name_or_source) }
    }

    /// The names that [`named`](Self::named) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    fn at_time(source: &str, now: Option<SystemTime>) -> Result<Self> {
        let template = match source.trim() {
            "" => Err(TemplateError::new("it is empty")),
            _ => Template::parse(source),
        };
        let template = template.map_err(|error| explain("cannot be parsed", &error))?;
        Ok(Self { source: source.to_owned(), template, now })
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders the prompt as text. `bos` and `eos` are the texts of those tokens. A template that writes `bos_token`
    /// puts it into the prompt, so tokenise the result with [`Tokenizer::encode_prompt`], which never doubles it.
    ///
    /// # Errors
    /// If the template fails or refuses the messages; the message gives the line and the reason.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String> {
        self.render_with(messages, false, add_generation_prompt, bos, eos)
    }

    /// [`render`](Self::render); with `parts` each content is a list of parts, of which there is one.
    fn render_with(
        &self,
        messages: &[Message],
        parts: bool,
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String> {
        let messages = messages.iter().map(|Message { role, content }| {
            let part =
                || Data::Map(vec![("type", Data::Text("text")), ("text", Data::Text(content))]);
            let content = if parts { Data::List(vec![part()]) } else { Data::Text(content) };
            Data::Map(vec![("role", Data::Text(role)), ("content", content)])
        });
        let variables = [
            ("messages", Data::List(messages.collect())),
            ("add_generation_prompt", Data::Bool(add_generation_prompt)),
            ("bos_token", Data::Text(bos)),
            ("eos_token", Data::Text(eos)),
            ("tools", Data::None),
            ("documents", Data::None),
        ];
        let now = local(self.now.unwrap_or_else(SystemTime::now));
        self.template.render(&variables, now).map_err(|error| explain("failed", &error))
    }

    /// [`render`](Self::render) with the texts of this tokenizer's BOS and EOS, such that no message is lost: where the
    /// template loses one, it gets contents as lists of parts, and the text of a system message that it has no place for
    /// stands before that of the first user message.
    ///
    /// # Errors
    /// Those of [`render`](Self::render), if a message has an unknown role, and if the template loses a message all the
    /// same.
    pub fn text(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String> {
        check_roles(messages)?;
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        let whole = |messages: &[Message], parts: bool| {
            let text = self.render_with(messages, parts, add_generation_prompt, bos, eos)?;
            match lost(messages, &text) {
                None => Ok(text),
                Some(Message { role, .. }) => {
                    Err(Error::Template(format!("loses the text of a message of role {role}")))
                }
            }
        };
        let either = |messages: &[Message]| {
            whole(messages, false).or_else(|error| whole(messages, true).map_err(|_| error))
        };
        either(messages).or_else(|error| match with_system_in_user(messages) {
            Some(merged) => either(&merged).map_err(|_| error),
            None => Err(error),
        })
    }

    /// Renders and tokenises the prompt for a context of `n_ctx` tokens. BOS comes first, once, if the model wants it.
    /// The result is ready for a session.
    ///
    /// # Errors
    /// If there is no message, if the messages cannot fit, which is checked before they are tokenised, and those of
    /// [`text`](Self::text) and [`Tokenizer::encode`].
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
        n_ctx: usize,
    ) -> Result<Vec<u32>> {
        if messages.is_empty() {
            return Err(Error::Prompt("the conversation has no message; give one".into()));
        }
        let text = self.text(tokenizer, messages, add_generation_prompt)?;
        tokenizer.check_fits(&text, n_ctx)?;
        tokenizer.encode_prompt(&text)
    }
}

/// A message whose text does not occur in a prompt as often as it was given. What an assistant thought may be missing, as
/// may white space around a text, and a tool's text may be quoted as JSON.
fn lost<'a>(messages: &'a [Message], prompt: &str) -> Option<&'a Message> {
    messages.iter().find(|message| {
        let text = required_text(message);
        let given = messages.iter().filter(|other| required_text(other) == text).count();
        let is_quoted = || {
            let quoted = serde_json::to_string(text).expect("a text is JSON");
            message.role == "tool" && prompt.contains(&quoted[1..quoted.len() - 1])
        };
        !text.is_empty() && prompt.matches(text).count() < given && !is_quoted()
    })
}

/// The part of a message that its prompt has to contain.
fn required_text(message: &Message) -> &str {
    const THOUGHT_ENDS: &str = "</think>";
    let content = &*message.content;
    let thought = (message.role == "assistant").then(|| content.rfind(THOUGHT_ENDS)).flatten();
    thought.map_or(content, |at| &content[at + THOUGHT_ENDS.len()..]).trim()
}

/// The same conversation, with the texts of system and developer messages before that of the first user message; `None`
/// where there are none of either.
fn with_system_in_user(messages: &[Message]) -> Option<Vec<Message>> {
    let is_system = |message: &&Message| ["system", "developer"].contains(&&*message.role);
    let user = messages.iter().position(|message| message.role == "user")?;
    let mut texts: Vec<&str> = messages.iter().filter(is_system).map(|m| &*m.content).collect();
    if texts.is_empty() {
        return None;
    }
    texts.push(&messages[user].content);
    let first = Message::new("user", texts.join("\n\n"));
    let others = |messages: &[Message]| -> Vec<Message> {
        messages.iter().filter(|message| !is_system(message)).cloned().collect()
    };
    Some([others(&messages[..user]), vec![first], others(&messages[user + 1..])].concat())
}

/// The roles of messages.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Refuses a conversation with an unknown role.
fn check_roles(messages: &[Message]) -> Result<()> {
    match messages.iter().find(|message| !ROLES.contains(&&*message.role)) {
        None => Ok(()),
        Some(Message { role, .. }) => Err(Error::Invalid(format!(
            "{role:?} is no role of a message; there are {}",
            ROLES.join(", ")
        ))),
    }
}

/// A time where this machine is.
fn local(time: SystemTime) -> DateTime {
    ZonedDateTime::try_from(time).map_or(DateTime::MAX, |time| time.datetime())
}

/// Words an error in one line: where and why.
fn explain(what: &str, error: &TemplateError) -> Error {
    let line = error.line().map(|line| format!("line {line} ")).unwrap_or_default();
    let reason = error.reason().split_whitespace().collect::<Vec<_>>().join(" ");
    Error::Template(format!("{line}{what}: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn conversation() -> Vec<Message> {
        [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye")]
            .map(|(role, content)| Message::new(role, content))
            .to_vec()
    }

    fn render(source: &str) -> Result<String> {
        ChatTemplate::from_source_at(source, UNIX_EPOCH + Duration::from_secs(1_721_952_000))?
            .render(&conversation(), true, "<s>", "</s>")
    }

    #[test]
    fn named_templates_write_the_known_forms() {
        for (name, expected) in [
            (
                "chatml",
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
                 <|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n\
                 <|im_start|>assistant\n",
            ),
            (
                "llama2",
                "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s>\
                 <s>[INST] Bye [/INST]",
            ),
            (
                "llama3",
                "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\n",
            ),
            ("vicuna", "Be brief.\n\nUSER: Hi\nASSISTANT: Hello.</s>\nUSER: Bye\nASSISTANT:"),
            (
                "zephyr",
                "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n\
                 <|user|>\nBye</s>\n<|assistant|>\n",
            ),
        ] {
            let template = ChatTemplate::named(name).unwrap();
            let found = template.render(&conversation(), true, "<s>", "</s>").unwrap();
            assert_eq!(found, expected, "{name}");
            let without = template.render(&conversation()[..3], false, "<s>", "</s>").unwrap();
            assert!(without.trim_end().ends_with(['>', '.']), "{name}: {without}");
        }
        let error = ChatTemplate::named("nonesuch").unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("chatml, llama2"), "{error}");
    }

    #[test]
    fn templates_find_what_hugging_face_gives_them() {
        for (source, expected) in [
            ("{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}", "2024"),
            ("{{ messages[-1]['content'].strip().upper() }}", "BYE"),
            ("{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }}", "b"),
            ("{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}", "uaus"),
            (
                "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{% if loop.last %}{% break %}{% endif %}{{ loop.index0 }}{% endfor %}",
                "02",
            ),
            (
                "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
                "4",
            ),
            (
                "{{ tools is none }}{{ nothing is defined }}{{ nothing }}{{ (messages[0].content is string) }}",
                "TrueFalseTrue",
            ),
            ("{%- for key, value in {'a': 1}.items() %}{{ key ~ value }}{% endfor %}", "a1"),
            ("{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice('ab') }}", "abab"),
            ("{{ bos_token }}<b>&</b>\n", "<s><b>&</b>"),
            ("  {% if true %}\n  x\n  {% endif %}\ny\n\n", "  x\ny\n"),
            (
                "{{ raise_exception is defined }}{{ messages | map(attribute='role') | join(',') }}",
                "Truesystem,user,assistant,user",
            ),
            ("{%- set m = messages[0] %}{% generation %}x{% endgeneration %}", "x"),
        ] {
            match render(source) {
                Ok(found) => assert_eq!(found, expected, "{source}"),
                Err(error) => panic!("{source}: {error}"),
            }
        }
    }

    #[test]
    fn failures_say_the_line_the_reason_and_the_way_out() {
        for (source, parts) in [
            (
                "a\n{{ raise_exception('roles must\n alternate') }}",
                ["line 2 failed", "roles must alternate"],
            ),
            ("\n\n{% if %}", ["line 3 cannot be parsed", "unexpected"]),
            ("{{ nothing.at.all }}", ["line 1 failed", "undefined"]),
            (
                "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
                ["line 1", "fuel"],
            ),
        ] {
            let text = render(source).unwrap_err().to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            assert!(!text.contains('\n') && text.contains("give another"), "{text}");
        }
    }

    #[test]
    fn the_real_models_template_renders() {
        let Some(path) = crate::gguf::tests::real_model() else { return };
        let gguf = crate::gguf::Gguf::open(path).unwrap();
        let template = ChatTemplate::from_gguf(gguf.metadata()).unwrap().unwrap();
        let messages = [Message::new("user", "Hi")];
        let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by \
                        Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(template.render(&messages, true, "<s>", "</s>").unwrap(), expected);
        let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
        let tokens = template.prompt(&tokenizer, &messages, true, 512).unwrap();
        assert_eq!(tokenizer.decode(&tokens, true), expected.as_bytes());
        assert_eq!(tokens[0], tokenizer.token_id("<|im_start|>").unwrap());
        assert!(tokenizer.is_end_of_generation(tokenizer.token_id("<|im_end|>").unwrap()));
    }
}
