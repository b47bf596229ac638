//! Requests to a hub: redirects, proxies, limits of time, and what is tried again.
//!
//! The token goes to the hub alone: a redirect to another host, as to the servers that hold files, is followed without it,
//! and none leads from https to http. A proxy is the one that `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY` names, unless
//! `NO_PROXY` names the host. Certificates are checked with those of the system.

use super::event::{Event, FetchObserver};
use crate::error::Error;
use crate::setting::{Advice, Setting};
use std::net::IpAddr;
use std::time::Duration;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

/// Longest time to find a server's address, to connect, and until an answer begins.
const RESOLVE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(60);
/// Most redirects of one request.
const REDIRECTS_MAX: usize = 8;
/// How often a request is made again if nothing arrives.
const ATTEMPTS: u32 = 5;
/// Longest pause that a hub may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Where a hub is, and how it is asked.
pub struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    pause: Duration,
}

/// Why a request failed, in words that stand behind what was asked for.
#[derive(Debug)]
pub enum Failure {
    /// The caller cancelled it.
    Cancelled,
    /// No connection could be made.
    Unreachable(String),
    /// It may succeed later; the hub may say when.
    Transient {
        /// What is wrong.
        what: String,
        /// How long to wait.
        after: Option<Duration>,
    },
    /// It will fail again.
    Permanent {
        /// What is wrong.
        what: String,
        /// What helps.
        advice: Vec<Advice>,
    },
}

impl Client {
    /// A client of the hub at this address. `pause` is the time until a failed request is first made again, `silence` the
    /// longest time in the middle of an answer in which nothing arrives.
    pub fn new(endpoint: &str, token: Option<&str>, pause: Duration, silence: Duration) -> Client {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .tls_config(tls)
            .timeout_resolve(Some(RESOLVE))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(silence))
            .user_agent(concat!("dovetail/", env!("CARGO_PKG_VERSION")))
            .build();
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Client { agent: config.new_agent(), endpoint, token: token.map(str::to_owned), pause }
    }

    /// Asks for a path of the hub, and follows redirects. `headers` go to every server on the way.
    ///
    /// # Errors
    /// If no server answers, or the answer is that there is nothing to be had.
    pub fn get(
        &self,
        path: &str,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Response<Body>, Failure> {
        let address = format!("{}/{path}", self.endpoint);
        let wrong = |what: String| Failure::Permanent { what, advice: Vec::new() };
        let no_address = |address: &str| wrong(format!("{address} is no address of a hub"));
        let mut uri: Uri = address.parse().map_err(|_| no_address(&address))?;
        let hub = origin(&uri).ok_or_else(|| no_address(&address))?;
        for _ in 0..=REDIRECTS_MAX {
            let is_hub = origin(&uri).as_ref() == Some(&hub);
            let response = self.ask(&uri, headers, is_hub)?;
            if !response.status().is_redirection() {
                return self.checked(response);
            }
            let location = response.headers().get(header::LOCATION);
            let location = location.and_then(|location| location.to_str().ok());
            uri = location.and_then(|location| redirected(&uri, location)).ok_or_else(|| {
                wrong(format!("the hub redirects to {}", location.unwrap_or("no address")))
            })?;
        }
        Err(wrong("the hub redirects in a circle".into()))
    }

    /// The attempts of a request.
    pub fn attempts(&self) -> Attempts {
        Attempts { failed: 0, pause: self.pause, has_talked: false }
    }

    /// Those of a request that is made once.
    pub fn one_attempt(&self) -> Attempts {
        Attempts { failed: ATTEMPTS, ..self.attempts() }
    }

    fn ask(
        &self,
        uri: &Uri,
        headers: &[(header::HeaderName, String)],
        is_hub: bool,
    ) -> Result<Response<Body>, Failure> {
        let unreachable = |what: &str| Failure::Unreachable(format!("{}: {what}", host(uri)));
        let proxy = match proxy(uri, &|name| std::env::var(name).ok()) {
            None => None,
            Some(proxy) => {
                // What it says may hold a password.
                Some(Proxy::new(&proxy).map_err(|_| unreachable("the proxy's address is wrong"))?)
            }
        };
        let mut request = self.agent.get(uri).config().proxy(proxy).build();
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|error| match error {
            error if is_silence(&error) => {
                Failure::Transient { what: "the hub does not answer".into(), after: None }
            }
            error => unreachable(&error.to_string()),
        })
    }

    /// The answer, if it is one.
    fn checked(&self, response: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = response.status();
        let token = match self.token {
            None => Advice::Give(Setting::HubToken),
            Some(_) => Advice::Replace(Setting::HubToken),
        };
        let permanent =
            |what: &str, advice| Failure::Permanent { what: what.into(), advice: vec![advice] };
        Err(match status {
            status if status.is_success() => return Ok(response),
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(response),
            StatusCode::UNAUTHORIZED => {
                permanent("the hub does not have it, or asks for a token", token)
            }
            StatusCode::FORBIDDEN => {
                let accept = Advice::Do("accept the model's terms on its page".into());
                Failure::Permanent {
                    what: "the hub refuses it".into(),
                    advice: vec![accept, token],
                }
            }
            StatusCode::NOT_FOUND => {
                permanent("the hub does not have it", Advice::Do("check the name".into()))
            }
            status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                let after = response.headers().get(header::RETRY_AFTER);
                let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
                let what = format!("the hub answers {status}");
                Failure::Transient { what, after: after.map(Duration::from_secs) }
            }
            status => {
                Failure::Permanent { what: format!("the hub answers {status}"), advice: Vec::new() }
            }
        })
    }
}

impl Failure {
    /// Why nothing can be had now, where it may be had later.
    pub fn passes(&self) -> Option<String> {
        match self {
            Failure::Unreachable(what) => Some(format!("cannot reach {what}")),
            Failure::Transient { what, .. } => Some(what.clone()),
            Failure::Cancelled | Failure::Permanent { .. } => None,
        }
    }

    /// The error about what was asked for.
    pub fn error(self, subject: &str) -> Error {
        let (what, advice) = match self {
            Failure::Cancelled => return Error::Cancelled("fetching the model"),
            Failure::Unreachable(what) => (
                format!("cannot reach {what}"),
                vec![Advice::Do("check the network and the proxy".into())],
            ),
            Failure::Transient { what, .. } => (what, vec![Advice::Do("try again later".into())]),
            Failure::Permanent { what, advice } => (what, advice),
        };
        Error::Hub { subject: subject.into(), what, advice }
    }
}

/// Counts the attempts of a request.
pub struct Attempts {
    failed: u32,
    pause: Duration,
    has_talked: bool,
}

impl Attempts {
    /// Something has arrived: failures count from here.
    pub fn renew(&mut self) {
        self.failed = 0;
        self.has_talked = true;
    }

    /// Waits until the request may be made again.
    ///
    /// # Errors
    /// The failure, if that would not help.
    pub fn wait(&mut self, failure: Failure, observer: &mut FetchObserver) -> Result<(), Failure> {
        let (what, asked) = match &failure {
            Failure::Transient { what, after } => (what, *after),
            // Without a network the first request tells.
            Failure::Unreachable(what) if self.has_talked => (what, None),
            _ => return Err(failure),
        };
        let after = asked.unwrap_or(self.pause * 2u32.pow(self.failed));
        if self.failed == ATTEMPTS || after > PAUSE_MAX {
            return Err(failure);
        }
        self.failed += 1;
        if !observer(Event::Retry { what, after }) {
            return Err(Failure::Cancelled);
        }
        std::thread::sleep(after);
        Ok(())
    }
}

/// Whether a server took the request and does not answer. Other limits of time end where no server is.
fn is_silence(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Timeout(ureq::Timeout::RecvResponse))
}

/// A path with all bytes escaped that mean something in an address.
pub fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            byte => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// Where a redirect leads; `None` if that is no address, or unencrypted after an encrypted one.
fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let to = match location {
        location if location.starts_with("//") => format!("{scheme}:{location}"),
        location if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        location => location.to_owned(),
    };
    let to: Uri = to.parse().ok()?;
    let secure = |uri: &Uri| uri.scheme_str() == Some("https");
    (origin(&to).is_some() && (secure(&to) || !secure(from))).then_some(to)
}

/// Whether what is sent to this address stays on this machine or is encrypted.
pub fn is_private(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<Uri>() else { return false };
    let host = host(&uri).trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    uri.scheme_str() == Some("https") || is_loopback
}

/// Scheme, host and port, which make one server.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme.to_owned(), uri.host()?.to_ascii_lowercase(), port))
}

fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default()
}

/// The proxy for an address, from variables of the environment.
fn proxy(uri: &Uri, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let set = |name: &str| {
        let value = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
        value.filter(|value| !value.trim().is_empty())
    };
    let of_scheme = match uri.scheme_str() {
        Some("https") => "HTTPS_PROXY",
        _ => "HTTP_PROXY",
    };
    let host = host(uri).to_ascii_lowercase();
    let is_direct = |domain: &str| {
        let domain =
            domain.trim().trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
        // All that is left of a `*` matches every host.
        let before = host.strip_suffix(&domain);
        before.is_some_and(|before| before.is_empty() || domain.is_empty() || before.ends_with('.'))
    };
    let no_proxy = set("NO_PROXY").unwrap_or_default();
    let mut direct = no_proxy.split(',').filter(|domain| !domain.trim().is_empty());
    if direct.any(is_direct) {
        return None;
    }
    set(of_scheme).or_else(|| set("ALL_PROXY")).map(|proxy| proxy.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn redirects_lead_to_whole_addresses_and_never_out_of_https() {
        let from = uri("https://hub.example:8443/a/b");
        for (location, expected) in [
            ("/c?d=e", Some("https://hub.example:8443/c?d=e")),
            ("//files.example/c", Some("https://files.example/c")),
            ("https://files.example/c", Some("https://files.example/c")),
            ("http://files.example/c", None),
            ("ftp://files.example/c", None),
            ("file:///etc/passwd", None),
            ("not an address", None),
        ] {
            let found = redirected(&from, location).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{location}");
        }
        assert!(redirected(&uri("http://a/"), "http://b/").is_some());
    }

    #[test]
    fn one_server_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| origin(&uri(a)) == origin(&uri(b));
        assert!(same("https://a/x", "https://A:443/y"));
        for other in ["http://a/", "https://a:444/", "https://b/", "https://x.a/"] {
            assert!(!same("https://a/", other), "{other}");
        }
    }

    #[test]
    fn proxies_are_those_of_the_environment() {
        let found = |address: &str, set: &[(&str, &str)]| {
            let variable = |name: &str| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            };
            proxy(&uri(address), &variable)
        };
        let set = [
            ("HTTPS_PROXY", "http://s:1"),
            ("http_proxy", "http://h:1"),
            ("ALL_PROXY", "http://a:1"),
        ];
        for (address, from, expected) in [
            ("https://x.example/", 0..3, Some("http://s:1")),
            ("http://x.example/", 0..3, Some("http://h:1")),
            ("http://x.example/", 2..3, Some("http://a:1")),
            ("http://x.example/", 0..1, None),
        ] {
            assert_eq!(found(address, &set[from]).as_deref(), expected, "{address}");
        }
        for (no_proxy, direct) in [
            ("x.example", true),
            ("example", true),
            (".example", true),
            ("*.example", true),
            ("a.test, X.EXAMPLE", true),
            ("*", true),
            ("ample", false),
            ("y.x.example", false),
            (",", false),
            ("", false),
        ] {
            let set = [("ALL_PROXY", "http://a:1"), ("NO_PROXY", no_proxy)];
            assert_eq!(found("https://x.example/", &set).is_none(), direct, "{no_proxy:?}");
        }
    }

    #[test]
    fn only_a_server_that_was_reached_is_silent() {
        use ureq::Timeout;
        assert!(is_silence(&ureq::Error::Timeout(Timeout::RecvResponse)));
        for timeout in [Timeout::Resolve, Timeout::Connect, Timeout::SendRequest] {
            assert!(!is_silence(&ureq::Error::Timeout(timeout)), "{timeout}");
        }
    }

    #[test]
    fn a_token_is_seen_by_nobody_on_the_way() {
        for (endpoint, expected) in [
            ("https://hub.example", true),
            ("HTTPS://hub.example/", true),
            ("http://localhost:8080", true),
            ("http://127.0.0.1:80/hub", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:80", true),
            ("http://hub.example", false),
            ("http://192.168.0.1", false),
            ("http://localhost.example", false),
            ("http://127.0.0.1.example", false),
            ("not a hub", false),
            ("", false),
        ] {
            assert_eq!(is_private(endpoint), expected, "{endpoint}");
        }
    }

    #[test]
    fn names_of_files_are_escaped() {
        assert_eq!(escaped("a/b c#d?e%.gguf"), "a/b%20c%23d%3Fe%25.gguf");
        assert_eq!(escaped("é"), "%C3%A9");
    }

    #[test]
    fn attempts_end_and_pauses_grow() {
        let client =
            Client::new("http://127.0.0.1:1", None, Duration::from_micros(1), Duration::MAX);
        let mut attempts = client.attempts();
        let mut pauses = Vec::new();
        let transient = |after| Failure::Transient { what: "w".into(), after };
        let mut observer = |event: Event| {
            let Event::Retry { after, .. } = event else { panic!("{event:?}") };
            pauses.push(after.as_micros());
            true
        };
        while attempts.wait(transient(None), &mut observer).is_ok() {}
        assert!(
            client
                .attempts()
                .wait(transient(Some(Duration::from_secs(3600))), &mut observer)
                .is_err()
        );
        assert!(client.attempts().wait(transient(None), &mut |_| false).is_err());
        assert!(
            client.attempts().wait(Failure::Unreachable(String::new()), &mut observer).is_err()
        );
        attempts.renew();
        attempts.wait(Failure::Unreachable(String::new()), &mut observer).unwrap();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 1]);
    }
}
