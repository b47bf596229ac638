//! The templates of `tests/data/templates` render as Jinja2 renders them; `scripts/make_template_reference.py` says how.

use std::fmt;
use std::fs::read_to_string;

use jiff::civil::date;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::heap::Heap;
use super::super::meter::Meter;
use super::super::value::Value;
use super::super::{Template, TemplateError};

/// JSON whose objects keep the order of their keys.
enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Int(value as i64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Json::Map(entries))
    }
}

impl Json {
    fn entries(&self) -> &[(String, Json)] {
        let Json::Map(entries) = self else { panic!("an object is expected") };
        entries
    }

    /// Whether it is a reference of a template that fails at this stage.
    fn fails_at(&self, stage: &str) -> bool {
        matches!(self.entries(), [(key, Self::Text(known))] if key == "fails" && known == stage)
    }

    /// What a reference asks for.
    fn expectation(&self) -> String {
        match self {
            Self::Text(text) => format!("Ok({text:?})"),
            Self::Map(_) if self.fails_at("parse") => "an error of the parser".to_owned(),
            _ => "an error of the interpreter".to_owned(),
        }
    }

    fn value(&self, heap: &Heap) -> Result<Value, TemplateError> {
        Ok(match self {
            Self::Null => Value::None,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Text(text) => heap.text(text)?,
            Self::List(items) => {
                let mut list = heap.list_builder()?;
                items.iter().try_for_each(|item| list.push(item.value(heap)?))?;
                list.finish()
            }
            Self::Map(entries) => {
                let mut map = heap.map_builder()?;
                for (key, value) in entries {
                    map.push(heap.text(key)?, value.value(heap)?)?;
                }
                map.finish()
            }
        })
    }
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/templates/");

fn read(name: &str) -> String {
    read_to_string(format!("{FOLDER}{name}")).unwrap()
}

/// The text of a template, or the stage that fails and why.
fn render(source: &str, variables: &Json) -> Result<String, (&'static str, String)> {
    let failed = |stage| move |error: TemplateError| (stage, error.reason().to_owned());
    let heap = Heap::new(Meter::new(0, 0)).unwrap();
    let mut values = Vec::new();
    for (name, value) in variables.entries() {
        values.push((&name[..], value.value(&heap).unwrap()));
    }
    let now = date(2024, 2, 5).at(15, 4, 9, 12_345_000);
    let template = Template::parse(source).map_err(failed("parse"))?;
    template.run(&heap, &values, now).map(|rendered| rendered.text).map_err(failed("render"))
}

/// Says how a rendering differs from its reference, which names the stage where Jinja2 fails.
fn difference(about: &str, source: &str, variables: &Json, reference: &Json) -> Option<String> {
    let found = render(source, variables);
    let is_same = match (&found, reference) {
        (Ok(found), Json::Text(expected)) => found == expected,
        // Jinja2 has no such limits, and it knows all filters and tests but `nothing`.
        (Err((stage, reason)), Json::Map(_)) => {
            let is_ours =
                ["fuel", "memory", "levels deep"].iter().any(|limit| reason.contains(limit));
            let is_unknown = reason.contains("unknown") && !source.contains("nothing");
            !is_ours && !is_unknown && reference.fails_at(stage)
        }
        _ => false,
    };
    (!is_same).then(|| format!("{about}\n     is {found:?}\n not {}", reference.expectation()))
}

fn assert_none(differences: &[String], n: usize) {
    assert!(differences.is_empty(), "{} of {n}:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn templates_of_families_render_as_jinja2_renders_them() {
    let references: Json = serde_json::from_str(&read("families.json")).unwrap();
    let [(_, conversations), (_, renderings)] = references.entries() else { panic!("two parts") };
    let mut differences = Vec::new();
    let mut n = 0;
    for (family, texts) in renderings.entries() {
        let source = read(family);
        assert_eq!(texts.entries().len(), conversations.entries().len(), "{family}");
        for ((name, variables), (_, expected)) in
            conversations.entries().iter().zip(texts.entries())
        {
            // Line ends of other systems are the same.
            for (ends, source) in
                [("\\n", source.clone()), ("\\r\\n", source.replace('\n', "\r\n"))]
            {
                n += 1;
                let about = format!("{family}, {name}, {ends}");
                differences.extend(difference(&about, &source, variables, expected));
            }
        }
    }
    let mut files: Vec<_> = std::fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap()).collect();
    files.retain(|file| file.path().extension().is_some_and(|extension| extension == "jinja"));
    assert_eq!(files.len(), renderings.entries().len(), "each template has references");
    assert_none(&differences, n);
}

#[test]
fn constructs_render_as_jinja2_renders_them() {
    let references: Json = serde_json::from_str(&read("constructs.json")).unwrap();
    let [(_, variables), (_, Json::List(renderings))] = references.entries() else {
        panic!("two parts")
    };
    let text = read("constructs.txt");
    let lines = text.strip_suffix('\n').unwrap().split('\n').filter(|line| !line.starts_with("# "));
    let sources: Vec<_> = lines.map(|line| line.replace('⏎', "\n").replace('␍', "\r")).collect();
    assert_eq!(sources.len(), renderings.len(), "each template has a reference");
    let compared = sources.iter().zip(renderings);
    let differences: Vec<_> = compared
        .filter_map(|(source, expected)| difference(source, source, variables, expected))
        .collect();
    assert_none(&differences, sources.len());
}
