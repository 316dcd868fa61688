//! Logs: text for people or JSON for machines, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::error::Error;
use crate::settings::{LogFormat, Settings};

/// Starts logging for the whole process. Called once, by main.
pub fn start(settings: &Settings) -> Result<(), Error> {
    let mut filter = EnvFilter::try_new(&settings.log).map_err(|source| Error::LogFilter {
        filter: settings.log.clone(),
        source,
    })?;
    if settings.access_log {
        // Asked for by its own flag, so it is written whatever the filter says of the rest.
        let access = "podline::access=info".parse();
        filter = filter.add_directive(access.expect("a target and a level are a directive"));
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match settings.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Somebody who embeds the proxy may log already; theirs stays.
    drop(started);
    Ok(())
}
