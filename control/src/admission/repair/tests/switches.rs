//! `VERSION` of the ConfigMap of switches.

use super::*;
use crate::cluster::switches::own_version;

const PATH: &str = "/api/v1/namespaces/kube-system/configmaps/tke-service-controller-config";

struct Keeper {
    alone: watch::Sender<bool>,
    task: JoinHandle<()>,
    metrics: Metrics,
    /// Keeps the reign.
    _commander: Commander,
}

impl Keeper {
    fn start(server: &Server) -> Self {
        let commander = Commander::new();
        commander.set(LEADER);
        let metrics = Metrics::new();
        let connections = connections(server, &commander, &metrics);
        let (alone, is_alone) = watch::channel(false);
        let repair = Repair::of_switches(connections, "podline-system", is_alone);
        Self {
            alone,
            task: tokio::spawn(repair.run(std::future::pending())),
            metrics,
            _commander: commander,
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn put(server: &Server, manager: &str, data: &Value) {
    let managers = json!([{"manager": manager, "time": "2025-01-01T00:00:00Z"}]);
    let metadata = json!({
        "namespace": "kube-system", "name": "tke-service-controller-config", "uid": "u",
        "labels": {"theirs": "x"}, "managedFields": managers,
    });
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data,
    });
    server.put_object(PATH, object);
}

fn data(server: &Server) -> Value {
    server.object(PATH).unwrap()["data"].clone()
}

#[tokio::test(start_paused = true)]
async fn the_version_is_written_where_tke_is_not_and_again_when_it_is_changed() {
    let server = Server::new();
    let keeper = Keeper::start(&server);
    keeper.alone.send_replace(true);
    sleep(seconds(20)).await;
    assert_eq!(server.writes(), 0, "nobody made the ConfigMap");
    let theirs = json!({"VERSION": "v2.11.4", "GlobalRouteDirectAccess": "true"});
    keeper.alone.send_replace(false);
    put(&server, "kubectl", &theirs);
    sleep(seconds(20)).await;
    assert_eq!(data(&server), theirs, "TKE's controller may be here");

    keeper.alone.send_replace(true);
    sleep(seconds(1)).await;
    let mut expected = theirs.clone();
    expected["VERSION"] = json!(own_version());
    assert_eq!(data(&server), expected);
    let labels = server.object(PATH).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels, json!({"theirs": "x"}));
    assert_eq!(server.told(), [""; 0], "nobody damaged anything");

    change(&server, PATH, "kubectl-edit", |object| {
        object["data"]["VERSION"] = json!("v9");
    });
    sleep(Duration::from_millis(10)).await;
    assert_eq!(data(&server), expected);
    let told = "ConfigMap/tke-service-controller-config: Repaired: data.VERSION is v9; mended";
    assert_eq!(server.told(), [told]);
    let metrics = keeper.metrics.render(0, 0, &<_>::default());
    let counted =
        "podline_control_repairs_total{object=\"ConfigMap/tke-service-controller-config\"} 1";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    change(&server, PATH, "kubectl-edit", |object| {
        object["data"].as_object_mut().unwrap().remove("VERSION");
    });
    sleep(Duration::from_millis(10)).await;
    assert_eq!(data(&server), expected);

    // Whoever deletes it wants none.
    server.delete_object(PATH);
    sleep(seconds(60)).await;
    assert!(server.object(PATH).is_none());
}

#[tokio::test(start_paused = true)]
async fn somebody_who_keeps_another_version_is_not_fought_with() {
    let server = Server::new();
    put(&server, "gitops", &json!({}));
    let keeper = Keeper::start(&server);
    keeper.alone.send_replace(true);
    sleep(seconds(1)).await;
    for _ in 0..20 {
        change(&server, PATH, "gitops", |object| {
            object["data"]["VERSION"] = json!("v9");
        });
        sleep(seconds(1)).await;
    }
    assert_eq!(data(&server)["VERSION"], "v9");
    let told = server.told();
    let contest = "ConfigMap/tke-service-controller-config: RepairContested: gitops";
    assert!(told.last().unwrap().starts_with(contest), "{told:?}");
}
