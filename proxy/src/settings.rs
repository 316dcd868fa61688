//! What the process is told when it starts: flags, each of which is also an environment variable `PODLINE_*`.
//!
//! Process settings only: listeners and backend sets are state, which comes by file or API.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::host::responder::ResponderSettings;
use crate::host::return_path::settings::ReturnPathSettings;

/// A load balancer for TCP, UDP, HTTP and TLS, straight to backends that change while it runs.
#[derive(Debug, Parser)]
#[command(
    name = "podline-proxy",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct CommandLine {
    #[command(subcommand)]
    /// What to do instead of running.
    pub command: Option<Command>,
    #[command(flatten)]
    /// How to run.
    pub settings: Settings,
}

/// What the binary does besides running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate a configuration file and say what ports, privileges and descriptors it needs
    ///
    /// Exit code 2 if the file is refused; each problem is told as file:line: path: problem.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Keep replies of this node's Pods going back through the proxies that their connections came from
    ///
    /// Runs on every node, in its own network, with CAP_NET_ADMIN. What it installs stays when it ends; --remove takes it
    /// away.
    ReturnPath(ReturnPathSettings),
    /// Tell whoever connects, over TCP or UDP, who they are seen as; proxies prove the way to a node's Pods by it
    Responder(ResponderSettings),
    /// Show it at work: toy Pods on loopback, the proxy before them, and changes pushed through its API
    Demo {
        /// Stop after so long, once the script is over (about 10s at the least), instead of staying until Ctrl-C
        #[arg(long, value_name = "TIME", value_parser = podline_api::duration::parse)]
        exit_after: Option<Duration>,
    },
}

/// How the proxy runs.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Settings {
    /// Configuration file, read again on SIGHUP and when it changes
    #[arg(long, env = "PODLINE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Worker threads [default: one per core]
    #[arg(long, env = "PODLINE_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Where state, dashboard, health and metrics are served over HTTP, read-only
    #[arg(long, env = "PODLINE_ADMIN", value_name = "ADDR", default_value_t = Self::ADMIN)]
    pub admin: SocketAddr,
    /// A second address that serves only /healthz, /readyz and /metrics
    #[arg(long, env = "PODLINE_METRICS", value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Where the control API is served: ip:port or unix:PATH; may be given several times, or with commas
    ///
    /// Loopback addresses and Unix sockets are served in plain text, and whoever reaches them may do everything. Any
    /// other address is open to the network: it is served with mutual TLS and needs --api-cert, --api-key and
    /// --api-client-ca.
    #[arg(long, env = "PODLINE_API", value_name = "ADDR", value_delimiter = ',', default_value = Self::API)]
    pub api: Vec<ApiAddress>,
    /// Certificate that API addresses open to the network show, PEM; read again when it changes and on SIGHUP
    #[arg(long, env = "PODLINE_API_CERT", value_name = "FILE")]
    pub api_cert: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, env = "PODLINE_API_KEY", value_name = "FILE")]
    pub api_key: Option<PathBuf>,
    /// Who may sign the certificates of callers over the network, PEM; one or more
    #[arg(long, env = "PODLINE_API_CLIENT_CA", value_name = "FILE")]
    pub api_client_ca: Option<PathBuf>,
    /// Where the state of all owners but `file` is kept, so that it is there again after a restart
    #[arg(long, env = "PODLINE_STATE_FILE", value_name = "FILE")]
    pub state_file: Option<PathBuf>,
    /// How long connections may live on at shutdown
    #[arg(long, env = "PODLINE_SHUTDOWN_TIMEOUT", value_name = "TIME", default_value = "25s",
        value_parser = podline_api::duration::parse)]
    pub shutdown_timeout: Duration,
    /// Write a log line for each connection
    #[arg(long, env = "PODLINE_ACCESS_LOG", value_parser = BoolishValueParser::new())]
    pub access_log: bool,
    /// Mark of packets that are answers to imitated clients, in the bits of --mask
    ///
    /// Only listeners with a sourceAddress other than SNAT, and routes of the network, need the three. No other bit of a
    /// mark is ever touched. The mark with the mask's second bit turned over is used too: for connections to backends
    /// behind routes of the network.
    #[arg(long, env = "PODLINE_MARK", value_name = "BITS", default_value = "0x700", value_parser = bits)]
    pub mark: u32,
    /// Bits of packet marks that are Podline's own on this host
    #[arg(long, env = "PODLINE_MASK", value_name = "BITS", default_value = "0xfff", value_parser = bits)]
    pub mask: u32,
    /// Routing table that delivers what has the mark; the next but one holds the routes of the network
    #[arg(long, env = "PODLINE_ROUTE_TABLE", value_name = "N", default_value_t = Self::ROUTE_TABLE)]
    pub route_table: u32,
    /// How logs look
    #[arg(
        long,
        env = "PODLINE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, or module=level pairs
    #[arg(
        long,
        env = "PODLINE_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,
}

impl Settings {
    const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
    pub(crate) const MARK: u32 = 0x700;
    pub(crate) const MASK: u32 = 0xfff;
    pub(crate) const ROUTE_TABLE: u32 = 700;
    const API: &str = "127.0.0.1:9902";

    /// Workers to start: as told, else one per core.
    pub fn worker_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.workers.map_or_else(cores, usize::from)
    }

    /// The files behind the API addresses that are open to the network; absent if there is no such address.
    ///
    /// # Errors
    /// There is one, and files are missing: the words for the operator.
    pub fn api_files(&self) -> Result<Option<ApiFiles>, String> {
        let Some(open) = self.api.iter().find(|address| address.is_open_to_network()) else {
            return Ok(None);
        };
        let flags = [
            ("--api-cert", &self.api_cert),
            ("--api-key", &self.api_key),
            ("--api-client-ca", &self.api_client_ca),
        ];
        if let [Some(certificate), Some(key), Some(client_ca)] = flags.map(|(_, file)| file.clone())
        {
            return Ok(Some(ApiFiles {
                certificate,
                key,
                client_ca,
            }));
        }
        let missing = flags.iter().filter(|(_, file)| file.is_none());
        let missing: Vec<_> = missing.map(|(flag, _)| *flag).collect();
        Err(format!(
            "--api {open} is open to the network, which needs mTLS: give {} too, or use a loopback address or unix:PATH",
            missing.join(" and ")
        ))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config: None,
            workers: None,
            admin: Self::ADMIN,
            metrics: None,
            api: vec![Self::API.parse().expect("a loopback address")],
            api_cert: None,
            api_key: None,
            api_client_ca: None,
            state_file: None,
            shutdown_timeout: Duration::from_secs(25),
            access_log: false,
            mark: Self::MARK,
            mask: Self::MASK,
            route_table: Self::ROUTE_TABLE,
            log_format: LogFormat::Text,
            log: "info".to_owned(),
        }
    }
}

/// A number as people write bits: in hexadecimal with 0x, else in decimal.
pub(crate) fn bits(text: &str) -> Result<u32, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What an API address open to the network shows and trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiFiles {
    /// Our certificate and those that lead to its signer, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who may sign the certificates of callers, PEM.
    pub client_ca: PathBuf,
}

/// Where the control API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAddress {
    /// An address of this machine; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket, open to the process's own user.
    Unix(PathBuf),
}

impl ApiAddress {
    /// Whether others than this machine may reach it: then callers have to prove who they are.
    pub fn is_open_to_network(&self) -> bool {
        matches!(self, Self::Tcp(address) if !address.ip().is_loopback())
    }
}

impl FromStr for ApiAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: needs a path".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| "write ip:port, [v6]:port or unix:PATH".to_owned())
    }
}

impl fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<CommandLine, String> {
        let all = std::iter::once("podline-proxy").chain(arguments.iter().copied());
        CommandLine::try_parse_from(all).map_err(|error| error.to_string())
    }

    #[test]
    fn no_flags_mean_the_defaults() {
        let line = parse(&[]).unwrap();
        assert_eq!(line.settings, Settings::default());
        assert!(line.command.is_none());
    }

    #[test]
    fn every_flag_is_an_environment_variable_too() {
        let command = CommandLine::command();
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long() else {
                continue;
            };
            if ["help", "version"].contains(&long) {
                continue;
            }
            let expected = format!("PODLINE_{}", long.replace('-', "_").to_uppercase());
            let found = argument
                .get_env()
                .map(|name| name.to_string_lossy().into_owned());
            assert_eq!(found, Some(expected));
        }
        CommandLine::command().debug_assert();
    }

    #[test]
    fn flags_are_read() {
        let line = parse(&[
            "--config",
            "a.yaml",
            "--workers",
            "2",
            "--admin",
            "[::1]:1",
            "--metrics",
            "0.0.0.0:2",
            "--api",
            "unix:/run/p.sock,10.0.0.1:1",
            "--api",
            "[::1]:2",
            "--api-cert",
            "c.pem",
            "--api-key",
            "k.pem",
            "--api-client-ca",
            "ca.pem",
            "--state-file",
            "state",
            "--shutdown-timeout",
            "1m",
            "--access-log",
            "--mark",
            "0x100",
            "--mask",
            "768",
            "--route-table",
            "7",
            "--log-format",
            "json",
            "--log",
            "debug",
        ])
        .unwrap();
        let expected = Settings {
            config: Some("a.yaml".into()),
            workers: Some(2),
            admin: "[::1]:1".parse().unwrap(),
            metrics: Some("0.0.0.0:2".parse().unwrap()),
            api: ["unix:/run/p.sock", "10.0.0.1:1", "[::1]:2"]
                .map(|address| address.parse().unwrap())
                .into(),
            api_cert: Some("c.pem".into()),
            api_key: Some("k.pem".into()),
            api_client_ca: Some("ca.pem".into()),
            state_file: Some("state".into()),
            shutdown_timeout: Duration::from_mins(1),
            access_log: true,
            mark: 0x100,
            mask: 0x300,
            route_table: 7,
            log_format: LogFormat::Json,
            log: "debug".to_owned(),
        };
        assert_eq!(line.settings, expected);
        assert_eq!(expected.worker_count(), 2);
    }

    #[test]
    fn an_api_open_to_the_network_needs_all_three_files() {
        for address in ["0.0.0.0:9902", "[::]:9902", "10.0.0.1:9902"] {
            let settings = parse(&["--api", address]).unwrap().settings;
            let error = settings.api_files().unwrap_err();
            for part in [
                "mTLS",
                "--api-cert",
                "--api-key",
                "--api-client-ca",
                address,
            ] {
                assert!(error.contains(part), "{error}");
            }
        }
        let mut arguments = vec!["--api", "127.0.0.1:1,10.0.0.1:1", "--api-cert", "c"];
        let error = parse(&arguments).unwrap().settings.api_files().unwrap_err();
        let told = "give --api-key and --api-client-ca too";
        assert!(error.contains(told), "{error}");
        arguments.extend(["--api-key", "k", "--api-client-ca", "ca"]);
        let files = ApiFiles {
            certificate: "c".into(),
            key: "k".into(),
            client_ca: "ca".into(),
        };
        let settings = parse(&arguments).unwrap().settings;
        assert_eq!(settings.api_files(), Ok(Some(files)));
    }

    #[test]
    fn an_api_of_this_machine_needs_no_files() {
        for address in ["127.0.0.1:0", "[::1]:9902", "127.8.0.1:1", "unix:a"] {
            let settings = parse(&["--api", address]).unwrap().settings;
            assert_eq!(settings.api[0].to_string(), address);
            assert_eq!(settings.api_files(), Ok(None));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            &["--workers", "0"][..],
            &["--api", "unix:"],
            &["--api", "localhost:9902"],
            &["--shutdown-timeout", "25"],
            &["--log-format", "xml"],
            &["--config", "a", "check", "b"],
            &["extra"],
        ] {
            parse(arguments).unwrap_err();
        }
    }

    #[test]
    fn commands_are_read() {
        let line = parse(&["check", "a.yaml"]).unwrap();
        assert!(matches!(line.command, Some(Command::Check { file }) if file.ends_with("a.yaml")));
        let line = parse(&["demo", "--exit-after", "10s"]).unwrap();
        let Some(Command::Demo { exit_after }) = line.command else {
            panic!("{line:?}")
        };
        assert_eq!(exit_after, Some(Duration::from_secs(10)));
    }
}
