//! One Push call: transactions one after the other, each answered before the next is read.
//!
//! A refusal is an answer: what comes behind it does not depend on it, or says so by `ifVersion`.

use podline_api::v1;
use tokio::sync::{mpsc, watch as flag};
use tonic::{Status, Streaming};

use super::service::Desk;

type Answer = Result<v1::ApplyResponse, Status>;

/// Answers until the caller ends the call or breaks off, or the proxy stops.
pub(super) async fn run(
    mut requests: Streaming<v1::ApplyRequest>,
    desk: Desk,
    mut closing: flag::Receiver<bool>,
    answers: mpsc::Sender<Answer>,
) {
    loop {
        let request = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => {
                Err(Status::unavailable("the proxy is shutting down"))
            }
            () = answers.closed() => return,
            request = requests.message() => request,
        };
        let answer = match request {
            Ok(None) => return,
            // Once begun, a transaction is not broken off: this task outlives its caller.
            Ok(Some(request)) => match desk.open() {
                Ok(()) => Ok(answer(&desk, request).await),
                Err(stopped) => Err(stopped),
            },
            Err(status) => Err(status),
        };
        let ends = answer.is_err();
        if answers.send(answer).await.is_err() || ends {
            return;
        }
    }
}

async fn answer(desk: &Desk, request: v1::ApplyRequest) -> v1::ApplyResponse {
    match desk.take(request).await {
        Ok(answer) => answer,
        Err(rejected) => v1::ApplyResponse {
            version: desk.overview.state.version(),
            refusal: Some(rejected.into()),
            ..Default::default()
        },
    }
}
