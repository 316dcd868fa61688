//! What TkeServiceConfigs make of the rules of an Ingress, and the objects that are made for Ingresses.

use std::time::Duration;

use podline_api::{
    AffinityKind, BackendHttp, HashKey, HealthCheck, HttpCheck, HttpMethod, HttpVersion, Policy,
};
use serde_json::{Value, json};

use super::*;
use crate::build::annotation::KEPT_CONFIG;
use crate::build::annotation::ingress::{AUTO_CONFIG, CONFIG};
use crate::build::config::auto::Write;
use crate::cluster::ServiceConfig;
use crate::cluster::testing::service_config;

/// An Ingress, and what becomes of it.
struct World {
    checked: Checked,
    ingress: Ingress,
}

impl World {
    /// Follows `shop`; HTTP with the host a.example, and any other.
    fn new() -> Self {
        let mut made = ingress("default/site");
        made.rules = vec![
            rule("a.example", "/", "web"),
            rule("a.example", "/api", "api"),
            rule("*.b.example", "/", "web"),
        ];
        made.default_backend = Some(rule("", "/", "web").backend);
        let mut world = Self {
            checked: cluster(Options::default()),
            ingress: made,
        };
        world.annotate(CONFIG, Some("shop"));
        world
    }

    fn put(&mut self) {
        let made = self.ingress.clone();
        let change = Change::Ingress(made.key.clone(), Some(Box::new(made)));
        self.checked.change(change);
    }

    fn annotate(&mut self, key: &str, value: Option<&str>) {
        let annotations = &mut self.ingress.annotations;
        match value {
            Some(value) => annotations.insert(key.to_owned(), value.to_owned()),
            None => annotations.remove(key),
        };
        self.put();
    }

    /// Another object is there, or none.
    fn config(&mut self, name: &str, spec: Option<&str>) {
        let config = spec.map(|spec| Box::new(service_config(name, spec)));
        self.checked
            .change(Change::ServiceConfig(key(name), config));
    }

    /// The object says this of the rule `/` of a domain.
    fn say(&mut self, domain: &str, fields: &str) {
        let spec = format!(
            "{{loadBalancer: {{l7Listeners: [{{protocol: HTTP, port: 80, domains: [{{domain: '{domain}', rules: [{{url: /, {fields}}}]}}]}}]}}}}"
        );
        self.config("default/shop", Some(&spec));
    }

    fn plan(&self) -> Arc<Plan> {
        plan_of(&self.checked, "default/site")
    }

    /// Where the rule of a host and path of HTTP leads; of no host what takes the rest.
    fn led_to(&self, host: &str, path: &str) -> Arc<BackendSet> {
        let plan = self.plan();
        let named = |it: &&Arc<Listener>| it.name.as_str() == "default/site/http/80";
        let listener = plan.listeners.iter().find(named).unwrap();
        let routes = &listener.http.as_ref().unwrap().routes;
        let is_it =
            |it: &&HttpRoute| it.hosts == [host] && it.path == PathMatch::Prefix(path.to_owned());
        let name = match routes.iter().find(is_it).map(|it| &it.action) {
            Some(RouteAction::Forward(name)) => name,
            Some(odd) => panic!("{odd:?}"),
            None => listener.backend_set.as_ref().unwrap(),
        };
        let set = plan.sets.iter().find(|set| set.name == *name);
        Arc::clone(set.unwrap())
    }

    fn policy(&self, host: &str, path: &str) -> Policy {
        self.led_to(host, path).settings.policy
    }

    /// The notes that are about TkeServiceConfigs.
    fn notes(&self) -> Vec<String> {
        let plan = self.plan();
        let notes = plan.notes.iter().map(ToString::to_string);
        notes
            .filter(|note| note.starts_with("ServiceConfig"))
            .collect()
    }
}

/// The l7Listeners of TKE's page.
const EXAMPLE: &str = "
loadBalancer:
  l7Listeners:
  - protocol: HTTPS
    port: 443
    defaultServer: sample.tencent.com
    keepaliveEnable: 1
    domains:
    - domain: ''
      http2: true
      rules:
      - url: /
        forwardType: HTTP
        session: {enable: true, sessionExpireTime: 3600}
        healthCheck:
          enable: true
          intervalTime: 10
          timeout: 5
          healthNum: 2
          unHealthNum: 2
          httpCode: 31
          httpCheckPath: /checkHealth
          httpCheckDomain: sample.tencent.com
          httpCheckMethod: HEAD
          checkType: HTTP
          sourceIpType: 0
        scheduler: WRR
    - domain: sample.tencent.com
      rules:
      - url: /
        session: {enable: false}
        scheduler: LEAST_CONN
  internetMaxBandwidthOut: 100
";

/// What a row of the page promises.
type Promise = fn(&SetSettings) -> bool;

/// What is said of a probe.
fn probe(settings: &SetSettings) -> (&HealthCheck, &HttpCheck) {
    let check = settings.health_check.as_ref().unwrap();
    match &check.kind {
        CheckKind::Http(http) => (check, http),
        odd => panic!("{odd:?}"),
    }
}

/// Each field of the first rule.
const PROMISES: &[(&str, Promise)] = &[
    ("forwardType", |it| {
        it.http_version == BackendHttp::Http11 && it.tls.is_none()
    }),
    ("session", |it| {
        let kind = it.affinity.as_ref().map(|it| &it.kind);
        let hour = Some(Duration::from_hours(1));
        matches!(kind, Some(AffinityKind::Cookie { timeout, .. }) if *timeout == hour)
    }),
    ("intervalTime", |it| {
        probe(it).0.interval == Duration::from_secs(10)
    }),
    ("timeout", |it| {
        probe(it).0.timeout == Duration::from_secs(5)
    }),
    ("healthNum", |it| probe(it).0.healthy_threshold == 2),
    ("unHealthNum", |it| probe(it).0.unhealthy_threshold == 2),
    ("httpCode", |it| {
        (100..=599).all(|code| probe(it).1.statuses.contains(code))
    }),
    ("httpCheckPath", |it| probe(it).1.path == "/checkHealth"),
    ("httpCheckDomain", |it| {
        probe(it).1.host.as_deref() == Some("sample.tencent.com")
    }),
    ("httpCheckMethod", |it| {
        probe(it).1.method == HttpMethod::Head
    }),
    ("checkType", |it| {
        !probe(it).1.tls && probe(it).1.version == HttpVersion::Http11
    }),
    ("scheduler", |it| it.policy == Policy::RoundRobin),
];

#[test]
fn the_example_of_the_page_comes_to_what_it_promises() {
    let mut world = World::new();
    world.ingress.has_tls = true;
    world.ingress.secrets = vec!["s".into()];
    world.ingress.rules = vec![
        rule("", "/", "web"),
        rule("sample.tencent.com", "/", "web"),
        rule("sample.tencent.com", "/shop", "api"),
    ];
    world.ingress.default_backend = None;
    world.put();
    let secret = tls_secret("sample.tencent.com");
    let change = Change::Secret(key("default/s"), Some(secret));
    world.checked.change(change);
    world.config("default/shop", Some(EXAMPLE));
    let plan = world.plan();
    let listener = &plan.listeners[0];
    assert_eq!(listener.name.as_str(), "default/site/https/443");
    assert!(listener.tls.as_ref().unwrap().http2, "http2");
    let action = &listener.http.as_ref().unwrap().routes[0].action;
    let leads =
        |set: &BackendSet| matches!(action, RouteAction::Forward(name) if *name == set.name);
    let of_any = plan.sets.iter().find(|set| leads(set)).unwrap();
    for (field, promise) in PROMISES {
        assert!(promise(&of_any.settings), "{field}: {:?}", of_any.settings);
    }
    // The default domain's rules take what nobody else's do.
    let routes = routes(&plan, "default/site/https/443");
    let ways: Vec<_> = routes
        .iter()
        .map(|it| it.split(' ').next().unwrap())
        .collect();
    let expected = [
        "/",
        "sample.tencent.com/",
        "sample.tencent.com/shop",
        "/shop",
    ];
    assert_eq!(ways, expected, "defaultServer");
    assert_eq!(routes[3].split(' ').nth(1), routes[2].split(' ').nth(1));
    let mut least = plan.sets.iter();
    let least = least.find(|set| set.settings.policy == Policy::LeastConnections);
    assert!(least.unwrap().settings.affinity.is_none());
    let notes = world.notes();
    let about = |field: &str| notes.iter().filter(|it| it.contains(field)).count();
    assert_eq!(
        (about("sourceIpType"), about("internetMaxBandwidthOut")),
        (1, 1)
    );
    assert_eq!(notes.len(), 2, "keepaliveEnable is as it is: {notes:?}");
}

#[test]
fn each_rule_is_set_by_itself() {
    let mut world = World::new();
    let usual = world.led_to("a.example", "/");
    assert_eq!(usual.name, world.led_to("*.b.example", "/").name);
    world.say("A.example", "scheduler: IP_HASH");
    let maglev = Policy::Maglev(HashKey::ClientIp);
    assert_eq!(world.policy("a.example", "/"), maglev);
    for (host, path) in [("a.example", "/api"), ("*.b.example", "/"), ("", "/")] {
        assert_eq!(world.policy(host, path), Policy::RoundRobin, "{host}{path}");
    }
    assert_eq!(world.led_to("*.b.example", "/"), usual, "nothing of it");
    world.say("", "scheduler: LEAST_CONN, session: {enable: true}");
    assert_eq!(world.policy("", "/"), Policy::LeastConnections);
    assert_eq!(world.policy("a.example", "/"), maglev, "it stays");
    // What was set of a rule goes with it, and comes back with what is said now.
    world.ingress.rules.remove(0);
    world.put();
    world.ingress.rules.insert(0, rule("a.example", "/", "web"));
    world.put();
    assert_eq!(world.policy("a.example", "/"), Policy::RoundRobin);
    world.config("default/shop", None);
    assert_eq!(world.policy("", "/"), Policy::LeastConnections);
    assert_eq!(
        world.plan().config.text.as_deref(),
        Some(r#"{"HTTP/80  /":{"scheduler":"LEAST_CONN","session.enable":true}}"#)
    );
    // Whoever leads next knows it by what is written down.
    let text = world.plan().config.text.clone().unwrap();
    let mut fresh = World {
        checked: cluster(Options::default()),
        ..world
    };
    let annotations = &mut fresh.ingress.annotations;
    annotations.insert(KEPT_CONFIG.to_owned(), text);
    fresh.put();
    assert_eq!(fresh.policy("", "/"), Policy::LeastConnections);
}

#[test]
fn what_cannot_be_is_told_and_the_last_good_stays() {
    let good = "scheduler: LEAST_CONN, healthCheck: {enable: true, intervalTime: 10, timeout: 5, httpCheckDomain: x.b.example}";
    for (fields, domain, told) in [
        (
            "scheduler: ROUND",
            "a.example",
            "is none of WRR, LEAST_CONN, IP_HASH",
        ),
        (
            "healthCheck: {timeout: 10}",
            "a.example",
            "healthCheck.timeout 10 is not less than the intervalTime 10: 9 is nearest",
        ),
        (
            "healthCheck: {httpCode: 32}",
            "a.example",
            "32 is none of 1 to 31: 31 is nearest",
        ),
        (
            "session: {sessionExpireTime: 7}",
            "a.example",
            "7 is none of 30 to 3600: 30 is nearest",
        ),
    ] {
        let mut world = World::new();
        world.say(domain, good);
        let before = world.led_to(domain, "/");
        assert_eq!(before.settings.policy, Policy::LeastConnections);
        world.say(domain, fields);
        let notes = world.notes();
        let is_told = |it: &String| it.starts_with("ServiceConfigInvalid") && it.contains(told);
        assert!(notes.iter().any(is_told), "{fields}: {notes:?}");
        assert_eq!(world.led_to(domain, "/"), before, "{fields}");
    }
    let mut world = World::new();
    world.say(
        "*.b.example",
        "scheduler: LEAST_CONN, healthCheck: {enable: true, httpCheckPath: /x}",
    );
    assert!(
        world.notes()[0].contains("httpCheckDomain is missing"),
        "{:?}",
        world.notes()
    );
    let set = world.led_to("*.b.example", "/");
    assert_eq!(
        set.settings.policy,
        Policy::LeastConnections,
        "the rest counts"
    );
    let CheckKind::Http(http) = &set.settings.health_check.as_ref().unwrap().kind else {
        panic!("{set:?}");
    };
    assert_eq!(http.path, "/");
}

#[test]
fn whom_an_ingress_follows_is_said_clearly_or_nobody() {
    let mut world = World::new();
    world.say("a.example", "scheduler: LEAST_CONN");
    let reasons = |world: &World| -> Vec<String> {
        let notes = world.notes();
        let reasons = notes.iter().map(|note| note.split(':').next().unwrap());
        reasons.map(ToOwned::to_owned).collect()
    };
    let auto = "site-auto-ingress-config";
    let steps: &[(&str, Option<&str>, &str)] = &[
        (CONFIG, Some("other"), "ServiceConfigMissing"),
        (AUTO_CONFIG, Some("true"), "ServiceConfigAmbiguous"),
        (AUTO_CONFIG, None, "ServiceConfigMissing"),
        (CONFIG, Some(auto), "ServiceConfigNameReserved"),
    ];
    for (key, value, reason) in steps {
        world.annotate(key, *value);
        assert_eq!(reasons(&world), [*reason], "{key}: {value:?}");
        assert_eq!(world.policy("a.example", "/"), Policy::LeastConnections);
    }
    let plan = world.plan();
    let note = plan
        .notes
        .iter()
        .find(|it| it.reason == Reason::ServiceConfigNameReserved);
    let message = &note.unwrap().message;
    assert!(
        message.contains(CONFIG) && message.contains(AUTO_CONFIG),
        "{message}"
    );
    world.annotate(CONFIG, None);
    assert_eq!(reasons(&world), [""; 0]);
    assert_eq!(world.policy("a.example", "/"), Policy::LeastConnections);
}

#[test]
fn http2_is_offered_unless_no_domain_wants_it() {
    let mut world = World::new();
    world.ingress.has_tls = true;
    world.ingress.secrets = vec!["s".into()];
    world.ingress.default_backend = None;
    let change = Change::Secret(key("default/s"), Some(tls_secret("a.example")));
    world.checked.change(change);
    world.put();
    let offers = |world: &World| world.plan().listeners[0].tls.as_ref().unwrap().http2;
    let domain = |domain: &str| format!("{{domain: '{domain}', http2: false}}");
    let spec = |domains: &[String]| {
        format!(
            "{{loadBalancer: {{l7Listeners: [{{protocol: HTTPS, port: 443, domains: [{}]}}]}}}}",
            domains.join(", ")
        )
    };
    world.config("default/shop", Some(&spec(&[domain("a.example")])));
    assert!(offers(&world));
    let both = [domain("a.example"), domain("*.b.example")];
    world.config("default/shop", Some(&spec(&both)));
    assert!(!offers(&world));
}

/// What is to be written, if anything.
fn write(world: &World) -> Option<Write> {
    world.plan().config.auto.as_deref().cloned()
}

/// The object is as it was written, and somebody changed it.
fn put_object(world: &mut World, object: &Value) {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!("7");
    let object = serde_json::from_value(object).unwrap();
    let config = ServiceConfig::read(&object).unwrap();
    let change = Change::ServiceConfig(config.key.clone(), Some(Box::new(config)));
    world.checked.change(change);
}

#[test]
fn an_object_is_made_whose_entries_come_and_go_with_the_rules() {
    let mut world = World::new();
    world.ingress.annotations.remove(CONFIG);
    world.annotate(AUTO_CONFIG, Some("true"));
    let made = write(&world).unwrap();
    assert_eq!(made.key, key("default/site-auto-ingress-config"));
    let rules =
        |urls: &[&str]| -> Vec<Value> { urls.iter().map(|it| json!({"url": it})).collect() };
    let listener = |domains: Value| json!([{"protocol": "HTTP", "port": 80, "domains": domains}]);
    let balancer = &made.body["spec"]["loadBalancer"];
    assert_eq!(balancer["l4Listeners"], json!([]));
    assert_eq!(
        balancer["l7Listeners"],
        listener(json!([
            {"domain": "a.example", "rules": rules(&["/", "/api"])},
            {"domain": "*.b.example", "rules": rules(&["/"])},
            {"domain": "", "rules": rules(&["/"])},
        ]))
    );
    let owner = &made.body["metadata"]["ownerReferences"][0];
    let expected = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "site",
        "uid": "uid-ingress-default/site",
    });
    assert_eq!(*owner, expected);
    let mut object = made.body.clone();
    let domains = &mut object["spec"]["loadBalancer"]["l7Listeners"][0]["domains"];
    domains[0]["rules"][1]["scheduler"] = json!("LEAST_CONN");
    domains[0]["rules"]
        .as_array_mut()
        .unwrap()
        .push(json!({"url": "/mine"}));
    put_object(&mut world, &object);
    assert_eq!(write(&world), None, "it is as it should be");
    assert_eq!(world.policy("a.example", "/api"), Policy::LeastConnections);
    // A rule goes, a domain goes, another rule comes.
    world.ingress.rules = vec![
        rule("a.example", "/api", "api"),
        rule("a.example", "/new", "web"),
    ];
    world.put();
    let patch = write(&world).unwrap().body;
    let least = json!({"url": "/api", "scheduler": "LEAST_CONN"});
    assert_eq!(
        patch["spec"]["loadBalancer"],
        json!({"l7Listeners": listener(json!([
            {"domain": "a.example", "rules": [least, {"url": "/mine"}, {"url": "/new"}]},
            {"domain": "", "rules": rules(&["/"])},
        ]))})
    );
    // The Ingress is another one: the object is its.
    world.ingress.uid = "another".into();
    world.put();
    let owners = &write(&world).unwrap().body["metadata"]["ownerReferences"];
    assert_eq!(owners.as_array().unwrap().len(), 1);
    assert_eq!(owners[0]["uid"], "another");
    assert_eq!(world.policy("a.example", "/api"), Policy::LeastConnections);
}

#[test]
fn entries_that_are_odd_are_left_as_they_are() {
    let mut world = World::new();
    world.ingress.annotations.remove(CONFIG);
    world.annotate(AUTO_CONFIG, Some("true"));
    let mut object = write(&world).unwrap().body;
    let odd = json!([
        7,
        {"domain": "A.example", "rules": 7},
        {"domain": "a.example", "rules": [null, {"url": "/"}]},
        {"domain": 7, "rules": [{"url": 7}]},
    ]);
    object["spec"]["loadBalancer"]["l7Listeners"][0]["domains"] = odd;
    put_object(&mut world, &object);
    let patch = write(&world).unwrap().body;
    assert_eq!(
        patch["spec"]["loadBalancer"]["l7Listeners"][0]["domains"],
        json!([
            7,
            {"domain": "A.example", "rules": 7},
            {"domain": "a.example", "rules": [null, {"url": "/"}]},
            {"domain": 7, "rules": [{"url": 7}]},
            {"domain": "*.b.example", "rules": [{"url": "/"}]},
        ])
    );
}

#[test]
fn redirects_are_nothing_that_could_be_set() {
    let mut world = World::new();
    world.ingress.has_tls = true;
    world.ingress.secrets = vec!["s".into()];
    let auto = "ingress.cloud.tencent.com/auto-rewrite";
    world.ingress.annotations.remove(CONFIG);
    world
        .ingress
        .annotations
        .insert(auto.to_owned(), "true".to_owned());
    world.annotate(AUTO_CONFIG, Some("true"));
    let change = Change::Secret(key("default/s"), Some(tls_secret("a.example")));
    world.checked.change(change);
    let made = write(&world).unwrap().body;
    let listeners = &made["spec"]["loadBalancer"]["l7Listeners"];
    assert_eq!(
        listeners[0],
        json!({"protocol": "HTTP", "port": 80, "domains": []})
    );
    assert_eq!(listeners[1]["domains"].as_array().unwrap().len(), 3);
}
