//! What stands before all handlers: keys, whether the model is loaded, whether the server ends. And what stands behind
//! them: panics, errors in the words of the path's interface, the line in the log.

use crate::error::{ApiError, Dialect};
use crate::log::RequestLog;
use crate::state::App;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;

/// Answers a request, or refuses it before a handler sees it.
pub async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let log = Arc::new(RequestLog::new(request.method().as_str(), &path));
    request.extensions_mut().insert(log.clone());
    let mut response = match admit(&app, &path, &request) {
        Ok(()) => without_panic(next.run(request)).await.unwrap_or_else(|panic| {
            tracing::error!("{path}: {}", panic_text(&*panic));
            ApiError::internal("the server has a fault here; see its log").into_response()
        }),
        Err(error) => error.into_response(),
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        log.set_error(&error.message);
        response = error.response(Dialect::of(&path));
    }
    log.set_status(response.status().as_u16());
    response
}

fn admit(app: &App, path: &str, request: &Request) -> Result<(), ApiError> {
    if !app.keys.allow(path, request.headers()) {
        return Err(ApiError::unauthorized());
    }
    if app.ending.load(SeqCst) {
        return Err(ApiError::ending());
    }
    app.ready.get().map(|_| ()).ok_or_else(ApiError::loading)
}

/// A future's value, or its panic.
async fn without_panic<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // The future is not polled again behind a panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(|text| &**text)).unwrap_or("a panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_caught_with_its_text() {
        let panic = without_panic(async { panic!("at {}", 3) }).await;
        let panic: Box<dyn Any + Send> = panic.map(|(): ()| ()).unwrap_err();
        assert_eq!(panic_text(&*panic), "at 3");
        assert_eq!(without_panic(async { 5 }).await.ok(), Some(5));
    }
}
