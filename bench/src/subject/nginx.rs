//! nginx as an expert would configure it. Pure.

use std::path::PathBuf;

use super::Layer;
use super::targets::{CHAIN, CIPHERS, File, KEY, Port, SUITES, Wanted, joined};

const CONFIGURATION: &str = "nginx.conf";
/// More would only take memory: no load here opens as many connections.
const MOST_CONNECTIONS: u64 = 50_000;

/// Where forwarding of TCP and UDP is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Within the executable.
    BuiltIn,
    /// In a module that has to be loaded.
    Module(PathBuf),
    /// Nowhere.
    Absent,
}

impl Stream {
    /// Reads it from what `nginx -V` says.
    pub(super) fn of(build: &str) -> Self {
        let option = |name: &str| {
            let words = build.split_whitespace();
            let mut values = words.filter_map(|word| word.strip_prefix(name));
            values.next()
        };
        match option("--with-stream=dynamic") {
            Some("") => {
                let prefix = option("--prefix=").unwrap_or("/usr/local/nginx"); // its own default
                let default = format!("{prefix}/modules");
                let folder = option("--modules-path=").unwrap_or(&default);
                Self::Module(PathBuf::from(folder).join("ngx_stream_module.so"))
            }
            _ if build.split_whitespace().any(|word| word == "--with-stream") => Self::BuiltIn,
            _ => Self::Absent,
        }
    }
}

/// The files it reads.
pub(super) fn files(wanted: &Wanted, stream: &Stream) -> Vec<File> {
    let connections = (wanted.descriptors / 10 * 9).clamp(1, MOST_CONNECTIONS);
    let load = match (wanted.layer, stream) {
        (Layer::L4, Stream::Module(path)) => format!("load_module {};\n", path.display()),
        _ => String::new(),
    };
    let body = match wanted.layer {
        Layer::L4 => forwarding(wanted),
        Layer::L7 | Layer::Tls => requests(wanted),
    };
    let text = format!(
        "{load}daemon off;
worker_processes {workers};
worker_rlimit_nofile {descriptors};
pid {pid};
error_log stderr;
events {{ worker_connections {connections}; }}
{body}",
        workers = wanted.workers,
        descriptors = wanted.descriptors.max(1),
        pid = wanted.path("nginx.pid"),
    );
    let mut files = vec![(CONFIGURATION, text)];
    if wanted.layer.has_tls() {
        files.push((CHAIN, wanted.certificate.chain.clone()));
        files.push((KEY, wanted.certificate.key.clone()));
    }
    files
}

/// Its command line.
pub(super) fn arguments(wanted: &Wanted) -> Vec<String> {
    ["-e", "stderr", "-c", &wanted.path(CONFIGURATION)]
        .map(ToOwned::to_owned)
        .to_vec()
}

fn upstream(port: Port<'_>, more: &str) -> String {
    let servers = joined(port.targets, |target| format!(" server {target};"));
    format!("  upstream {} {{{servers}{more} }}\n", port.name)
}

fn forwarding(wanted: &Wanted) -> String {
    let mut known: Vec<&str> = Vec::new();
    let mut server = |port: Port<'_>| {
        let Port { name, listen, .. } = port;
        let buffer = match name {
            "bulk" => " proxy_buffer_size 256k;",
            _ => "",
        };
        let mut before = String::new();
        if !known.contains(&name) {
            known.push(name);
            before = upstream(port, "");
        }
        format!(
            "{before}  server {{ listen {listen} reuseport backlog=8192; proxy_pass {name};{buffer} }}\n"
        )
    };
    // A number of expected answers would end a flow at each of them, and make a socket for the next request.
    let datagrams = |port: Port<'_>| {
        let Port { name, listen, .. } = port;
        format!(
            "  server {{ listen {listen} udp reuseport; proxy_pass {name}; proxy_timeout 60s; }}\n"
        )
    };
    let servers: String = wanted.tcp().map(&mut server).collect();
    format!(
        "stream {{\n  proxy_connect_timeout 5s;\n  proxy_timeout 15m;\n{servers}{datagrams}}}\n",
        datagrams = wanted.udp().map(datagrams).unwrap_or_default(),
    )
}

fn requests(wanted: &Wanted) -> String {
    const KEPT: &str = " keepalive 256; keepalive_requests 100000000;";
    let server = |port: Port<'_>| {
        let before = match port.name {
            "http2" => String::new(), // it leads where HTTP does
            _ => upstream(port, KEPT),
        };
        format!(
            "{before}  server {{
    listen {listen}{how} reuseport backlog=8192;
    location / {{
{location}    }}
  }}
",
            listen = port.listen,
            how = client(wanted, port),
            location = match port.name {
                "grpc" => GRPC,
                _ => HTTP,
            },
        )
    };
    format!(
        "http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 15m;
{tls}{servers}}}
",
        tls = tls(wanted),
        servers = wanted.tcp().map(server).collect::<String>(),
    )
}

/// How requests go to Pods over HTTP/1.1.
const HTTP: &str = "      proxy_pass http://http;
      proxy_http_version 1.1;
      proxy_connect_timeout 5s;
      proxy_max_temp_file_size 0;
      proxy_set_header Connection '';
      proxy_set_header X-Forwarded-For $remote_addr;
";
/// How calls go to Pods.
const GRPC: &str = "      grpc_pass grpc://grpc;
      grpc_connect_timeout 5s;
      grpc_set_header X-Forwarded-For $remote_addr;
";

/// How clients speak: only with TLS it can tell HTTP/2 from HTTP/1.1.
fn client(wanted: &Wanted, port: Port<'_>) -> &'static str {
    match (wanted.layer, port.name) {
        (Layer::Tls, _) => " ssl http2",
        (_, "grpc" | "http2") => " http2",
        _ => "",
    }
}

/// How all ports speak TLS. Session tickets are its default.
fn tls(wanted: &Wanted) -> String {
    if !wanted.layer.has_tls() {
        return String::new();
    }
    format!(
        "  ssl_certificate {chain};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_conf_command Ciphersuites {SUITES};
  ssl_ciphers {CIPHERS};
",
        chain = wanted.path(CHAIN),
        key = wanted.path(KEY),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::targets::example;

    fn text(layer: Layer, stream: &Stream) -> String {
        let [(_, text)] = &files(&example(layer), stream)[..] else {
            panic!("one file");
        };
        text.clone()
    }

    #[test]
    fn connections_and_datagrams_are_forwarded() {
        let module = Stream::Module("/usr/lib/nginx/modules/ngx_stream_module.so".into());
        let expected = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid /run/bench/nginx.pid;
error_log stderr;
events { worker_connections 18000; }
stream {
  proxy_connect_timeout 5s;
  proxy_timeout 15m;
  upstream http { server 10.244.1.10:8080; server 10.244.1.11:8080; }
  server { listen 10.88.0.100:8000 reuseport backlog=8192; proxy_pass http; }
  upstream frames { server 10.244.1.10:8081; server 10.244.1.11:8081; }
  server { listen 10.88.0.100:8001 reuseport backlog=8192; proxy_pass frames; }
  upstream bulk { server 10.244.1.10:8081; server 10.244.1.11:8081; }
  server { listen 10.88.0.100:8002 reuseport backlog=8192; proxy_pass bulk; proxy_buffer_size 256k; }
  server { listen 10.88.0.100:8001 udp reuseport; proxy_pass frames; proxy_timeout 60s; }
}
";
        assert_eq!(text(Layer::L4, &module), expected);
        let built_in = text(Layer::L4, &Stream::BuiltIn);
        assert!(built_in.starts_with("daemon off;"), "{built_in}");
    }

    #[test]
    fn many_ports_share_their_upstream() {
        let wanted = Wanted {
            listeners: Some(2),
            ..example(Layer::L4)
        };
        let [(_, text)] = &files(&wanted, &Stream::BuiltIn)[..] else {
            panic!("one file");
        };
        let expected = "  upstream frames { server 10.244.1.10:8081; server 10.244.1.11:8081; }
  server { listen 10.88.0.100:8100 reuseport backlog=8192; proxy_pass frames; }
  server { listen 10.88.0.100:8101 reuseport backlog=8192; proxy_pass frames; }
}
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn requests_share_connections_that_are_kept() {
        let module = Stream::Module("/m.so".into());
        let text = text(Layer::L7, &module);
        for piece in [
            "upstream http { server 10.244.1.10:8080; server 10.244.1.11:8080; keepalive 256;",
            "proxy_pass http://http;",
            "proxy_http_version 1.1;",
            "proxy_set_header Connection '';",
            "listen 10.88.0.100:8003 http2 reuseport",
            "grpc_pass grpc://grpc;",
            "listen 10.88.0.100:8004 http2 reuseport",
        ] {
            assert!(text.contains(piece), "{piece}\n{text}");
        }
        assert_eq!(text.matches("upstream ").count(), 2, "{text}");
        assert!(!text.contains("ssl"), "{text}");
        assert!(
            !text.contains("stream {") && !text.contains("load_module"),
            "{text}"
        );
    }

    #[test]
    fn tls_ends_here() {
        let files = files(&example(Layer::Tls), &Stream::BuiltIn);
        let [(_, text), (chain, _), (key, secret)] = &files[..] else {
            panic!("three files");
        };
        for piece in [
            "  ssl_certificate /run/bench/tls.crt;\n  ssl_certificate_key /run/bench/tls.key;\n",
            "  ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384;\n",
            "    listen 10.88.0.100:8000 ssl http2 reuseport backlog=8192;\n",
            "    listen 10.88.0.100:8003 ssl http2 reuseport backlog=8192;\n",
        ] {
            assert!(text.contains(piece), "{piece}\n{text}");
        }
        assert_eq!((*chain, *key, &**secret), (CHAIN, KEY, "(key)\n"));
    }

    #[test]
    fn where_the_stream_module_is_is_read_from_the_build() {
        let debian = "nginx version: nginx/1.22.1\nconfigure arguments: --prefix=/usr/share/nginx \
                      --modules-path=/usr/lib/nginx/modules --with-stream=dynamic --with-stream_ssl_module";
        let path = |text: &str| Stream::Module(text.into());
        assert_eq!(
            Stream::of(debian),
            path("/usr/lib/nginx/modules/ngx_stream_module.so")
        );
        let own = "configure arguments: --prefix=/opt/nginx --with-stream=dynamic";
        assert_eq!(
            Stream::of(own),
            path("/opt/nginx/modules/ngx_stream_module.so")
        );
        let whole = "configure arguments: --with-stream --with-stream_ssl_module";
        assert_eq!(Stream::of(whole), Stream::BuiltIn);
        assert_eq!(Stream::of("--with-stream_ssl_module"), Stream::Absent);
        assert_eq!(Stream::of(""), Stream::Absent);
    }
}
