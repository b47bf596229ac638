//! What a hub knows a user by.

use crate::error::{Error, Result};
use crate::setting::{Advice, Choice, Setting};
use std::fmt;

/// A token: a secret, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token as it stands in a request.
    ///
    /// # Errors
    /// If it cannot stand there. The error does not quote it.
    pub(super) fn header_value(&self) -> Result<&str> {
        if !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(&self.0);
        }
        let refusal = Choice::from(Setting::HubToken).refuse("is no text of letters and digits");
        Err(Error::Setting(refusal.or(Advice::Replace(Setting::HubToken))))
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Token {
        Token(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_to_the_hub_alone() {
        let token = Token::from("hf_secret");
        assert_eq!(
            (token.header_value().unwrap(), format!("{token:?}")),
            ("hf_secret", "…".into())
        );
        for wrong in ["", "hf_secrét", "hf_secret\r\nHost: b", "hf secret"] {
            let error = Token::from(wrong).header_value().unwrap_err();
            assert!(error.is_usage(), "{wrong}");
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(!text.contains("secr"), "{text}");
            }
        }
    }
}
