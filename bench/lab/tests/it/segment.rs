//! A segment's machines reach each other as they should, with every way to join Pods.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use podline_lab::{Cni, Lab, Namespace, Segment, SegmentPlan, Wire, require_netns};

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
fn without_a_switch_everybody_is_reached_through_the_proxy() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let plan = SegmentPlan {
        wire: Wire::Links,
        proxies: 1,
        ..SegmentPlan::default()
    };
    let segment = Segment::build(&lab, plan).unwrap();
    let proxy = &segment.proxies[0];
    for family in [0, 1] {
        for (node, at) in (0..).zip(&segment.nodes) {
            let (pod, to) = (&at.pods[0], Segment::pod(node, 0)[family]);
            assert_eq!(seen(proxy, pod, to), Segment::proxy(0)[family]);
            assert_eq!(seen(&segment.client, pod, to), Segment::CLIENT[family]);
            let host = Segment::node(node)[family];
            assert_eq!(seen(proxy, &at.host, host), Segment::proxy(0)[family]);
        }
        let other = seen(
            &segment.nodes[1].pods[0],
            &segment.nodes[0].pods[0],
            Segment::pod(0, 0)[family],
        );
        assert_eq!(other, Segment::pod(1, 0)[family]);
        let front = seen(&segment.client, proxy, Segment::proxy(0)[family]);
        assert_eq!(front, Segment::CLIENT[family]);
    }
}

#[test]
fn a_pod_has_every_address_of_its_crowd() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    for wire in [Wire::Switch, Wire::Links] {
        let plan = SegmentPlan {
            wire,
            proxies: 1,
            pods: 2,
            ..SegmentPlan::default()
        };
        let segment = Segment::build(&lab, plan).unwrap();
        for (node, index) in [(0, 0), (1, 1)] {
            segment.give_crowd(node, index).unwrap();
            let pod = &segment.nodes[usize::from(node)].pods[usize::from(index)];
            for number in [0, 1, 2_000, Segment::CROWD - 1] {
                let to = Segment::crowd(node, index, number);
                assert_eq!(seen(&segment.proxies[0], pod, to), Segment::proxy(0)[0]);
                assert_eq!(seen(&segment.client, pod, to), Segment::CLIENT[0]);
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
