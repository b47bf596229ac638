//! From the first connection to the last: the listener is up before the model is loaded, and a signal ends the server once
//! the answers on their way are complete, or have had their time.

use crate::answer::Active;
use crate::args::Args;
use crate::auth::Keys;
use crate::connections::{self, Limits};
use crate::embedding;
use crate::engine_thread::EngineThread;
use crate::load::{self, Loaded};
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::router::router;
use crate::signals::Signals;
use crate::state::{App, Ready, unix_seconds};
use dovetail::{Error, Result};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// The exit code after a second Ctrl-C.
const INTERRUPTED: i32 = 130;
/// How long the last bytes of answers may take, once the engine has ended.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Serves until a signal comes.
///
/// # Errors
/// If the address cannot be used, or the model cannot be loaded.
pub fn run(args: Args) -> Result<ExitCode> {
    args.drafting.check()?;
    let keys = Keys::new(args.keys()?);
    // Handlers only wait; the engine needs the cores.
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(8).enable_all().build();
    let runtime = runtime.map_err(|error| Error::Invalid(format!("no threads: {error}")))?;
    let outcome = runtime.block_on(serve(args, keys));
    // A thread that still loads a model ends with the program.
    runtime.shutdown_background();
    outcome
}

async fn serve(args: Args, keys: Keys) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let listener = listen(&args).await?;
    let grace = args.grace();
    let app = Arc::new(App {
        keys,
        body_timeout: args.body_timeout(),
        ready: OnceLock::new(),
        ending: AtomicBool::new(false),
        active: Active::default(),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let limits = Limits::new(args.parallel + args.queue, args.body_timeout());
    let mut engine = start(args, app.clone(), stop.clone())?;
    let (close, closed) = oneshot::channel::<()>();
    let server = connections::serve(listener, router(app.clone()), limits, closed);
    let server = tokio::spawn(server);
    let outcome = tokio::select! {
        outcome = &mut engine => outcome.unwrap_or_else(|_| Err(panicked())),
        () = signals.next() => {
            tokio::spawn(async move {
                signals.next().await;
                std::process::exit(INTERRUPTED);
            });
            end(&app, &stop, grace, engine).await
        }
    };
    drop(close);
    let _ = timeout(LAST_BYTES, server).await;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn listen(args: &Args) -> Result<TcpListener> {
    let address = format!("{}:{}", args.host, args.port);
    let wrong = |error| {
        let what = format!("cannot listen at {address} ({error}); choose another --host or --port");
        Error::Invalid(what)
    };
    let listener = TcpListener::bind((&*args.host, args.port)).await.map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    tracing::info!("listening at http://{address}");
    Ok(listener)
}

/// Starts the thread that loads the model and then answers requests. What it returns, is how it ended.
fn start(
    mut args: Args,
    app: Arc<App>,
    stop: Arc<AtomicBool>,
) -> Result<oneshot::Receiver<Result<()>>> {
    let (ended, end) = oneshot::channel();
    let runtime = Handle::current();
    let work = move || {
        let outcome = load::load(&mut args, &stop).map(|loaded| {
            let engine = answer_requests(&args, loaded, &app, stop, runtime);
            tracing::info!("the model is loaded");
            engine.run();
        });
        let _ = ended.send(outcome);
    };
    let thread = std::thread::Builder::new().name("engine".into()).spawn(work);
    thread.map_err(|error| Error::Invalid(format!("no thread for the engine: {error}")))?;
    Ok(end)
}

/// Opens the gate, and returns what answers requests.
pub fn answer_requests(
    args: &Args,
    loaded: Loaded,
    app: &App,
    stop: Arc<AtomicBool>,
    runtime: Handle,
) -> EngineThread {
    let Loaded { engine, template, has_drafter, constraint, path } = loaded;
    let (queue, jobs) = Queue::new(args.queue);
    let metrics = Arc::new(Metrics::new(args.parallel));
    let file_name = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let ready = Ready {
        model: engine.model().clone(),
        template,
        name: args.alias.clone().unwrap_or_else(file_name),
        created: unix_seconds(),
        n_ctx: engine.n_ctx(),
        slots: args.parallel,
        has_drafter,
        pooling: embedding::pooling(args.pooling, engine.model()),
        sampling: args.sampling.clone(),
        n_predict: args.n_predict(),
        constraint,
        queue,
        metrics: metrics.clone(),
        path,
    };
    let _ = app.ready.set(Arc::new(ready));
    EngineThread { engine, jobs, metrics, stop, runtime }
}

/// Lets the answers on their way come to their ends, for a while, and then ends the engine's thread.
async fn end(
    app: &App,
    stop: &AtomicBool,
    grace: Duration,
    engine: oneshot::Receiver<Result<()>>,
) -> Result<()> {
    app.ending.store(true, SeqCst);
    if let Some(ready) = app.ready.get() {
        tracing::info!("ending; answers on their way have {} seconds", grace.as_secs());
        let over = async {
            while app.active.count() > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = timeout(grace, over).await;
        ready.queue.close();
    }
    stop.store(true, SeqCst);
    // Loading removes unfinished files.
    match timeout(LAST_BYTES, engine).await {
        Ok(Ok(Err(error))) if !matches!(error, Error::Cancelled(_)) => Err(error),
        _ => Ok(()),
    }
}

fn panicked() -> Error {
    Error::Invalid("the engine has a fault and has ended; see the lines above".into())
}
