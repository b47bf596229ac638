//! Templates known by name. They use only roles and contents. To add one, add a row, and its form to the tests of `mod.rs`.

/// Names and sources.
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

/// The source of a template.
pub fn source(name: &str) -> Option<&'static str> {
    NAMED.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, _)| *name)
}
