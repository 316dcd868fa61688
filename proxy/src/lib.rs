//! Podline's data plane: a load balancer whose backend sets change while it runs.
//!
//! ```text
//!  source, api --> state --(publish)--> worker: accept -> connect -> l4
//!                    ^ ^                   |         \-> lb (pure): table, pick
//!              probe-' '---- counters -----'
//! ```
//!
//! [`app`] puts it together. [`state`] is the single writer: it validates, compiles and publishes. A [`worker`] owns its connections and never
//! shares them. [`lb`] is pure: what is picked, and what probes mean. `net` alone speaks to the kernel's socket calls.

pub(crate) mod accept;
pub(crate) mod admin;
pub(crate) mod api;
pub mod app;
pub mod check;
pub(crate) mod connect;
pub mod demo;
pub mod error;
pub mod host;
pub(crate) mod l4;
pub(crate) mod l7;
pub mod lb;
pub(crate) mod listen;
pub mod logging;
pub(crate) mod metrics;
pub(crate) mod net;
pub(crate) mod notify;
pub(crate) mod overview;
pub mod probe;
pub mod proxy_header;
pub(crate) mod quiet;
pub mod settings;
pub mod shutdown;
pub(crate) mod source;
pub mod state;
pub mod tls;
pub mod worker;
