//! What `drain`, `undrain` and `weight` share: what an operator says about one backend, beside its owner.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use podline_api::{Override, OverrideAction, v1};

use super::backend::{self, Place};
use super::failure::{Exit, Failure};
use super::human::{clean, left, until};
use super::output::Screen;
use super::target::Target;

/// For how long, and why.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Terms {
    /// How long it holds, such as 30m; until it is undone if left out.
    #[arg(long = "for", value_name = "TIME", value_parser = podline_api::duration::parse)]
    pub(super) lasts: Option<Duration>,
    /// Why, for whoever sees it.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) note: String,
}

/// Sends it and says what holds then.
pub(super) async fn run(
    place: &Place,
    action: OverrideAction,
    terms: &Terms,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let client = target.connect().await?;
    let request = request(place, place.key(&client).await?, action, terms);
    let answer = client.override_backend(&request).await?;
    screen.answer(&answer, || render(&request, &answer, SystemTime::now()))?;
    Ok(Exit::Done)
}

/// The request for the backend that `place` turned out to mean.
pub(super) fn request(
    place: &Place,
    backend: podline_api::BackendKey,
    action: OverrideAction,
    terms: &Terms,
) -> Override {
    Override {
        set: place.set.clone(),
        backend,
        action,
        lasts: terms.lasts,
        note: terms.note.clone(),
    }
}

/// What holds now, until when, and how to undo it.
pub(super) fn render(request: &Override, answer: &v1::OverrideResponse, now: SystemTime) -> String {
    let Some(status) = &answer.status else {
        let what = format!("set/{} {}", request.set, request.backend);
        return if answer.changed {
            format!("{what} is as its owner says again\n")
        } else {
            format!("nothing to undo: {what} is as its owner says\n")
        };
    };
    let left = match left(status.until.as_ref(), now).as_str() {
        "" => String::new(),
        left => format!(" ({left} left)"),
    };
    let mut text = format!("{}{left}\n", clean(&holds(status)));
    if !answer.changed {
        text += "nothing changed: that held already\n";
    }
    if !status.present {
        text += "the set has no such backend now: it holds should it come\n";
    }
    let address = status.backend.as_ref().map_or("", |b| &b.address);
    let _ = writeln!(
        text,
        "undo: podline undrain set/{} {}",
        clean(&status.set),
        clean(address)
    );
    text
}

/// `set/web 10.0.0.2:80 (pod-2): drained until undone`.
pub(super) fn holds(status: &v1::OverrideStatus) -> String {
    format!(
        "set/{} {}: {} {}",
        status.set,
        backend::name_of(status.backend.as_ref()),
        action(status),
        until(status.until.as_ref()),
    )
}

/// `drained`, `weight 20`.
pub(super) fn action(status: &v1::OverrideStatus) -> String {
    use v1::override_request::Action;
    match (status.action(), status.weight) {
        (Action::Drain, _) => "drained".to_owned(),
        (Action::Weight, Some(weight)) => format!("weight {weight}"),
        _ => "overridden".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use podline_api::{BackendKey, Name};

    use super::*;
    use crate::cli::sample;

    fn check(answer: &v1::OverrideResponse, expected: &str) {
        let request = Override {
            set: Name::try_from("web").unwrap(),
            backend: BackendKey {
                id: None,
                address: "10.0.0.2:80".parse().unwrap(),
            },
            action: OverrideAction::Undrain,
            lasts: None,
            note: String::new(),
        };
        assert_eq!(render(&request, answer, sample::now()), expected);
    }

    fn answer(status: Option<v1::OverrideStatus>, changed: bool) -> v1::OverrideResponse {
        v1::OverrideResponse {
            version: 4,
            status,
            changed,
        }
    }

    #[test]
    fn what_holds_is_told_with_its_end_and_how_to_undo_it() {
        let drained = sample::drained();
        let text = "\
set/web 10.0.0.2:80 (pod-2): drained until 2023-11-14T22:23:20Z (10m left)
undo: podline undrain set/web 10.0.0.2:80
";
        check(&answer(Some(drained.clone()), true), text);
        let weight = v1::OverrideStatus {
            action: v1::override_request::Action::Weight.into(),
            weight: Some(20),
            until: None,
            present: false,
            ..drained
        };
        let text = "\
set/web 10.0.0.2:80 (pod-2): weight 20 until undone
nothing changed: that held already
the set has no such backend now: it holds should it come
undo: podline undrain set/web 10.0.0.2:80
";
        check(&answer(Some(weight), false), text);
    }

    #[test]
    fn what_is_over_is_told() {
        check(
            &answer(None, true),
            "set/web 10.0.0.2:80 is as its owner says again\n",
        );
        check(
            &answer(None, false),
            "nothing to undo: set/web 10.0.0.2:80 is as its owner says\n",
        );
    }
}
