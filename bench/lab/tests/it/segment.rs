//! A segment's machines reach each other as they should, with every way to join Pods.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use podline_lab::{Cni, Lab, Namespace, Segment, SegmentPlan, require_netns};

const LIMIT: Duration = Duration::from_secs(5);

/// Who the server at `to` sees when `from` connects.
fn seen(from: &Namespace, server: &Namespace, to: IpAddr) -> IpAddr {
    let listener = server.run(move || TcpListener::bind((to, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let connect = move |address: SocketAddr| TcpStream::connect_timeout(&address, LIMIT);
    let mut stream = from.run(move || connect(address).unwrap());
    let (accepted, peer) = listener.accept().unwrap();
    drop(accepted);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    peer.ip()
}

#[test]
fn everybody_reaches_every_pod_and_is_seen_as_who_they_are() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    for cni in [Cni::PointToPoint, Cni::Bridge] {
        for tunnelled in [false, true] {
            let plan = SegmentPlan {
                cni,
                tunnelled,
                pods: 2,
                ..SegmentPlan::default()
            };
            let segment = Segment::build(&lab, plan).unwrap();
            for family in [0, 1] {
                for (node, at) in (0..).zip(&segment.nodes) {
                    for (index, pod) in (0..).zip(&at.pods) {
                        let to = Segment::pod(node, index)[family];
                        let proxy = seen(&segment.proxies[1], pod, to);
                        if tunnelled {
                            assert_eq!(proxy, Segment::tunnelled_proxy(1)[family]);
                        } else {
                            assert_eq!(proxy, Segment::proxy(1)[family]);
                            let client = seen(&segment.client, pod, to);
                            assert_eq!(client, Segment::CLIENT[family]);
                        }
                        let other = &segment.nodes[1].pods[1];
                        if (node, index) != (1, 1) {
                            let peer = seen(other, pod, to);
                            assert_eq!(peer, Segment::pod(1, 1)[family]);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_link_takes_another_ethernet_address_and_a_shorter_packet() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let namespace = lab.namespace("host").unwrap();
    namespace.bridge("br0").unwrap();
    let mac = [2, 0, 0, 0, 0, 7];
    namespace.set_mac("br0", mac).unwrap();
    assert_eq!(namespace.mac("br0").unwrap(), mac);
    namespace.mtu("br0", 1300).unwrap();
}
