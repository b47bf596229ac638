//! The page at `/`: files that are part of the program. docs/page.md says what it shows.

use crate::state::App;
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// The names of the files in the folder, and what is in them.
macro_rules! files {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("page/", $name)))),*] };
}

const INDEX: &str = "index.html";
const FILES: &[(&str, &str)] = files![
    "index.html",
    "page.css",
    "answer.js",
    "api.js",
    "chart.js",
    "compare.js",
    "connection.js",
    "dom.js",
    "inline.js",
    "markdown.js",
    "messages.js",
    "page.js",
    "panel.js",
    "render.js",
    "settings.js",
    "sidebar.js",
    "sse.js",
    "store.js",
    "tokens.js",
    "tree.js",
];

/// The page, and its files under `/page/`, which need no key.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(async || file(INDEX)))
        .route("/page/{name}", get(async |Path(name): Path<String>| file(&name)))
}

/// A file of the page. Browsers ask each time whether it has changed, and no other page may frame it.
fn file(name: &str) -> Response {
    let Some((name, text)) = FILES.iter().find(|(each, _)| *each == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers: [(HeaderName, &str); 4] = [
        (CONTENT_TYPE, kind(name)),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, *text).into_response()
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        _ => "text/javascript; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_of_the_folder_are_served() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/dovetail-server/page");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut served: Vec<_> = FILES.iter().map(|(name, _)| name.to_string()).collect();
        served.sort();
        assert_eq!(served, names);
        assert_eq!(file("tree.js").status(), StatusCode::OK);
        assert_eq!(file("../page.rs").status(), StatusCode::NOT_FOUND);
    }
}
