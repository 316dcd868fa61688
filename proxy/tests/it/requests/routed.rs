//! Which set takes a request, and where clients are sent.

use podline_api::v1;

use crate::harness::web::{self, Client, Server};
use crate::harness::{Proxy, tcp, wire};

fn route(host: &str, path: v1::HttpPath, set: &str) -> v1::HttpRoute {
    v1::HttpRoute {
        hosts: if host.is_empty() {
            vec![]
        } else {
            vec![host.to_owned()]
        },
        path: Some(path),
        backend_set: set.to_owned(),
        redirect: None,
    }
}

fn prefix(path: &str) -> v1::HttpPath {
    v1::HttpPath {
        prefix: Some(path.to_owned()),
        exact: None,
    }
}

fn exact(path: &str) -> v1::HttpPath {
    v1::HttpPath {
        prefix: None,
        exact: Some(path.to_owned()),
    }
}

fn ask(client: &mut Client, host: &str, path: &str) -> web::Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client.answer()
}

#[test]
fn the_most_specific_route_takes_a_request() {
    let proxy = Proxy::start();
    let servers = ["one", "two", "three", "four"].map(Server::saying);
    let address = tcp::free_address();
    let listener = v1::Listener {
        backend_set: String::new(),
        routes: vec![
            route("", prefix("/"), "one"),
            route("*.example", prefix("/"), "two"),
            route("shop.example", prefix("/cart"), "three"),
            route("shop.example", exact("/cart/pay"), "four"),
            v1::HttpRoute {
                hosts: vec!["old.example".to_owned()],
                path: Some(prefix("/shop")),
                backend_set: String::new(),
                redirect: Some(v1::HttpRedirect {
                    scheme: Some("https".to_owned()),
                    host: Some("shop.example".to_owned()),
                    prefix: Some("/".to_owned()),
                    status: Some(308),
                    ..v1::HttpRedirect::default()
                }),
            },
        ],
        ..web::listener("web", address, "")
    };
    let names = ["one", "two", "three", "four"];
    let sets = names.iter().zip(&servers);
    let sets = sets.map(|(name, server)| wire::set(name, &[server.address]));
    proxy.apply(v1::ApplyRequest {
        listeners: vec![listener],
        ..wire::sets(sets)
    });
    proxy.wait_listening("web");
    let mut client = Client::connect(address);
    for (host, path, expected) in [
        ("nobody.test", "/", "one"),
        ("shop.example", "/", "two"),
        ("SHOP.example:8080", "/cart", "three"),
        ("shop.example", "/cart/a?b=/c", "three"),
        ("shop.example", "/carts", "two"),
        ("shop.example", "/cart/pay", "four"),
        ("shop.example", "/x/../cart/pay", "four"),
        ("a.b.example", "/", "two"),
    ] {
        assert_eq!(
            ask(&mut client, host, path).text(),
            expected,
            "{host}{path}"
        );
    }
    let answer = ask(&mut client, "old.example", "/shop/a?b=c");
    assert_eq!(answer.status, 308);
    assert_eq!(answer.field("location"), Some("https://shop.example/a?b=c"));
    assert_eq!(proxy.listener("web").accepted_connections, 1);
}

#[test]
fn who_is_not_served_is_told_so_and_may_ask_again() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = tcp::free_address();
    let listener = v1::Listener {
        backend_set: String::new(),
        routes: vec![route("shop.example", prefix("/"), "web")],
        ..web::listener("web", address, "")
    };
    proxy.serve_with(listener, wire::set("web", &[server.address]));
    let mut client = Client::connect(address);
    let answer = ask(&mut client, "other.example", "/");
    assert_eq!((answer.status, answer.reason()), (404, Some("no-route")));
    assert_eq!(ask(&mut client, "shop.example", "/").text(), "a");
}

#[test]
fn routes_change_under_open_connections() {
    let proxy = Proxy::start();
    let servers = ["a", "b"].map(Server::saying);
    let address = tcp::free_address();
    let listener = |set: &str| v1::Listener {
        routes: vec![route("", prefix("/x"), set)],
        ..web::listener("web", address, "a")
    };
    proxy.apply(v1::ApplyRequest {
        listeners: vec![listener("a")],
        ..wire::sets([
            wire::set("a", &[servers[0].address]),
            wire::set("b", &[servers[1].address]),
        ])
    });
    proxy.wait_listening("web");
    let mut client = Client::connect(address);
    assert_eq!(client.get("/x").text(), "a");
    proxy.apply(v1::ApplyRequest {
        listeners: vec![listener("b")],
        ..wire::sets([])
    });
    assert_eq!(client.get("/x").text(), "b");
    assert_eq!(client.get("/").text(), "a");
}
