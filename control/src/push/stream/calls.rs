//! The calls of one connection: one Watch, one Push, and at most two Gets at a time.

use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use podline_api::client::{ClientError, ProxyClient};
use podline_api::v1;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::super::sync::ANSWER_MS;

/// How long an answer may take.
pub(super) const ANSWER: Duration = Duration::from_millis(ANSWER_MS);

type Getting = BoxFuture<'static, Result<v1::GetResponse, Ended>>;

/// Why a connection ended, in words.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{}", in_words(.0))]
    Client(#[from] ClientError),
    #[error("it has not answered for 5 s")]
    Silent,
    #[error("it ended the call")]
    Closed,
    #[error("it speaks another protocol: no {0} where one was due")]
    Strange(&'static str),
    #[error("it is somewhere else now")]
    Moved,
}

fn in_words(error: &ClientError) -> String {
    match error {
        ClientError::Failed { source, .. } => format!("it broke off: {}", source.message()),
        other => chain(other),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some layers only repeat the one below.
        if !text.ends_with(&error.to_string()) {
            text = format!("{text}: {error}");
        }
        cause = error.source();
    }
    text
}

/// The calls of one connection.
pub(super) struct Calls {
    pub(super) client: ProxyClient,
    pub(super) events: Streaming<v1::WatchResponse>,
    pub(super) push: Option<Push>,
    pub(super) asking: Option<Asking>,
    pub(super) reading: Option<Getting>,
    pub(super) ask_at: Instant,
}

/// One Push.
pub(super) struct Push {
    requests: mpsc::Sender<v1::ApplyRequest>,
    answers: Answers,
}

enum Answers {
    Opening(BoxFuture<'static, Result<Streaming<v1::ApplyResponse>, ClientError>>),
    Open(Box<Streaming<v1::ApplyResponse>>),
}

/// A Get that is under way.
pub(super) struct Asking {
    since: Instant,
    answer: Getting,
}

impl Calls {
    /// Pushes a request. The call begins with the first.
    pub(super) fn send(&mut self, request: v1::ApplyRequest) -> Result<(), Ended> {
        let client = &self.client;
        let push = self.push.get_or_insert_with(|| {
            let (requests, pushed) = mpsc::channel(1);
            let client = client.clone();
            let opening = async move { client.push(ReceiverStream::new(pushed)).await };
            Push {
                requests,
                answers: Answers::Opening(opening.boxed()),
            }
        });
        // There is room: one request is under way at a time.
        push.requests.try_send(request).or(Err(Ended::Closed))
    }

    /// Asks for the whole state.
    pub(super) fn read(&mut self) {
        self.reading = Some(self.get(v1::GetRequest::default()));
    }

    /// Asks for something.
    pub(super) fn ask(&mut self, request: v1::GetRequest) {
        let (since, answer) = (Instant::now(), self.get(request));
        self.asking = Some(Asking { since, answer });
    }

    fn get(&self, request: v1::GetRequest) -> Getting {
        let client = self.client.clone();
        let answer = async move {
            let answer = timeout(ANSWER, client.get(request)).await;
            Ok(answer.or(Err(Ended::Silent))??)
        };
        answer.boxed()
    }

    /// What comes next on any of the calls.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Came, Ended> {
        tokio::select! {
            event = self.events.message() => match event {
                Ok(event) => Ok(Came::Event(event.ok_or(Ended::Closed)?)),
                Err(status) => Err(self.client.error(status).into()),
            },
            answer = next_answer(&mut self.push, &self.client) => Ok(Came::Answer(answer?)),
            state = came(self.asking.as_mut().map(|asking| &mut asking.answer)) => {
                let took = self.asking.take().map(|asking| asking.since.elapsed());
                Ok(Came::Asked(state?, took.unwrap_or_default()))
            }
            state = came(self.reading.as_mut()) => {
                self.reading = None;
                Ok(Came::Read(state?))
            }
        }
    }
}

/// What came on a call.
pub(super) enum Came {
    Event(v1::WatchResponse),
    Answer(v1::ApplyResponse),
    /// After so long.
    Asked(v1::GetResponse, Duration),
    Read(v1::GetResponse),
}

/// The next answer of a Push; never without one.
///
/// # Cancel safety
/// Nothing is lost: a call that was opened is kept before its first answer is awaited.
async fn next_answer(
    push: &mut Option<Push>,
    client: &ProxyClient,
) -> Result<v1::ApplyResponse, Ended> {
    let Some(push) = push else {
        return pending().await;
    };
    if let Answers::Opening(opening) = &mut push.answers {
        match opening.await {
            Ok(answers) => push.answers = Answers::Open(Box::new(answers)),
            Err(error) => return Err(error.into()),
        }
    }
    match &mut push.answers {
        Answers::Open(answers) => {
            let answer = answers.message().await.map_err(|s| client.error(s))?;
            answer.ok_or(Ended::Closed)
        }
        Answers::Opening(_) => pending().await,
    }
}

/// The answer of a Get; never without one.
async fn came(getting: Option<&mut Getting>) -> Result<v1::GetResponse, Ended> {
    match getting {
        Some(getting) => getting.await,
        None => pending().await,
    }
}
