//! API keys.

use axum::http::HeaderMap;

/// Paths that need no key: whether the server is ready, which models there are, and the page, which asks for a key itself.
const PUBLIC: &[&str] = &["/", "/health", "/v1/health", "/models", "/v1/models", "/api/tags"];

/// The keys of which a request must carry one.
#[derive(Default)]
pub struct Keys(Vec<String>);

impl Keys {
    /// These keys; requests need none if there is none.
    pub fn new(keys: Vec<String>) -> Keys {
        Keys(keys)
    }

    /// Whether a request may have its answer.
    pub fn allow(&self, path: &str, headers: &HeaderMap) -> bool {
        self.0.is_empty()
            || PUBLIC.contains(&path)
            || path.starts_with("/page/")
            || sent(headers).any(|sent| self.0.iter().any(|key| is_same(key, sent)))
    }
}

/// The keys that a request carries, as OpenAI's clients and as Anthropic's send it; some send one of their own beside it.
fn sent(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    bearer.map(|(_, key)| key.trim()).into_iter().chain(text("x-api-key"))
}

/// Compares in a time that does not tell where keys differ.
fn is_same(key: &str, sent: &str) -> bool {
    let differences = key.bytes().zip(sent.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    key.len() == sent.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_key_opens_everything_and_nothing_else_does() {
        let keys = Keys::new(vec!["abc".into(), "d".into()]);
        for (name, value, opens) in [
            ("authorization", "Bearer abc", true),
            ("authorization", "bearer d", true),
            ("x-api-key", "abc", true),
            ("authorization", "Bearer abd", false),
            ("authorization", "Bearer ab", false),
            ("authorization", "Bearer abcd", false),
            ("authorization", "Bearer ", false),
            ("authorization", "Basic abc", false),
            ("x-api-key", "", false),
            ("cookie", "abc", false),
        ] {
            assert_eq!(keys.allow("/v1/completions", &headers(name, value)), opens, "{value}");
        }
        let mut both = headers("authorization", "Bearer another");
        both.insert("x-api-key", "abc".parse().unwrap());
        assert!(keys.allow("/v1/messages", &both), "one of two is enough");
        assert!(keys.allow("/health", &HeaderMap::new()));
        assert!(!keys.allow("/v1/completions", &HeaderMap::new()));
        assert!(Keys::default().allow("/v1/completions", &HeaderMap::new()));
    }
}
