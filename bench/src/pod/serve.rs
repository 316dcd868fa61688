//! The process of a Pod: its one thread, its signals, and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::Protocol;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::sleep;

use super::listen::{Sockets, accept};
use super::state::State;
use super::{Options, control, datagrams, frames, hops, http, milliseconds};
use crate::load::raise_descriptors;

/// Serves until SIGTERM, or the end of standard input, and as long after that as the options say.
///
/// # Errors
/// In words for people, when it cannot listen.
pub fn serve(options: &Options) -> Result<(), String> {
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the Pod's runtime: {error}"))?;
    let local = LocalSet::new();
    let served = local.block_on(&runtime, run(options));
    drop(local); // what is still open ends here
    served
}

async fn run(options: &Options) -> Result<(), String> {
    let state = Arc::new(State::new(options.index));
    let mut term = signal(SignalKind::terminate())
        .map_err(|error| format!("cannot wait for SIGTERM: {error}"))?;
    control::answer(Arc::clone(&state));
    let is_late = options.accept_after > 0;
    if is_late {
        control::say_ready();
        tokio::select! {
            () = sleep(milliseconds(options.accept_after)) => (),
            _ = term.recv() => return Ok(()),
        }
    }
    let mut listening = listen(options, &state)?;
    if !is_late {
        control::say_ready();
    }
    term.recv().await;
    let end = sleep(milliseconds(options.end_after));
    let stop = async {
        sleep(milliseconds(options.stop_accepting_after)).await;
        state.stop();
        while listening.join_next().await.is_some() {}
        state.close(); // only now: who is told to connect anew must not find a socket that is about to go
        emptied(&state).await;
    };
    tokio::select! {
        () = end => (),
        () = stop => (),
    }
    Ok(())
}

/// Opens the sockets and starts what serves them; the tasks that hold the sockets.
fn listen(options: &Options, state: &Arc<State>) -> Result<JoinSet<()>, String> {
    let (address, ports) = (options.address, [options.http_port, options.frames_port]);
    let refused = |error| {
        format!("cannot listen on {address}, ports {ports:?}: {error}; is another Pod there?")
    };
    let sockets = Sockets::open(options).map_err(refused)?;
    let mut listening = JoinSet::new();
    listening.spawn_local(accept(sockets.http, Arc::clone(state), http::serve));
    listening.spawn_local(accept(sockets.frames, Arc::clone(state), frames::serve));
    let datagrams = datagrams::serve(sockets.datagrams, Arc::clone(state));
    listening.spawn_local(async move {
        datagrams.await.ok(); // it fails only with the runtime
    });
    for protocol in [Protocol::TCP, Protocol::UDP] {
        let watch = hops::watch(address, protocol, ports, Arc::clone(state));
        spawn_local(watch);
    }
    Ok(listening)
}

/// Waits until no connection is open.
async fn emptied(state: &State) {
    const LOOK: Duration = Duration::from_millis(5);
    while state.open.load(Relaxed) > 0 {
        let changed = state.changed.notified();
        tokio::select! {
            () = changed => (),
            () = sleep(LOOK) => (),
        }
    }
}
