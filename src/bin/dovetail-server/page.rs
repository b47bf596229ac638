//! The page at `/`: files that are part of the program.

use crate::state::App;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use std::sync::Arc;

const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/answer.js", "text/javascript; charset=utf-8", include_str!("page/answer.js")),
    ("/api.js", "text/javascript; charset=utf-8", include_str!("page/api.js")),
    ("/chart.js", "text/javascript; charset=utf-8", include_str!("page/chart.js")),
    ("/compare.js", "text/javascript; charset=utf-8", include_str!("page/compare.js")),
    ("/connection.js", "text/javascript; charset=utf-8", include_str!("page/connection.js")),
    ("/dom.js", "text/javascript; charset=utf-8", include_str!("page/dom.js")),
    ("/inline.js", "text/javascript; charset=utf-8", include_str!("page/inline.js")),
    ("/markdown.js", "text/javascript; charset=utf-8", include_str!("page/markdown.js")),
    ("/messages.js", "text/javascript; charset=utf-8", include_str!("page/messages.js")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/panel.js", "text/javascript; charset=utf-8", include_str!("page/panel.js")),
    ("/render.js", "text/javascript; charset=utf-8", include_str!("page/render.js")),
    ("/settings.js", "text/javascript; charset=utf-8", include_str!("page/settings.js")),
    ("/sidebar.js", "text/javascript; charset=utf-8", include_str!("page/sidebar.js")),
    ("/sse.js", "text/javascript; charset=utf-8", include_str!("page/sse.js")),
    ("/store.js", "text/javascript; charset=utf-8", include_str!("page/store.js")),
    ("/tree.js", "text/javascript; charset=utf-8", include_str!("page/tree.js")),
];

/// The page's files.
pub fn router() -> Router<Arc<App>> {
    FILES.iter().fold(Router::new(), |router, &(path, kind, text)| {
        router.route(path, get(async move || ([(CONTENT_TYPE, kind)], text)))
    })
}
