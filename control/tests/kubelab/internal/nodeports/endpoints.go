package nodeports

import (
	"net/netip"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
)

// plan adds what a Service wants of a node.
func (p *Proxy) plan(service *v1.Service, node *v1.Node, wants map[listenerKey]want) {
	slices := p.slicesOf(service)
	local := service.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal
	for _, a := range node.Status.Addresses {
		if a.Type != v1.NodeInternalIP {
			continue
		}
		address, err := netip.ParseAddr(a.Address)
		if err != nil {
			continue
		}
		for _, port := range service.Spec.Ports {
			key := listenerKey{at: netip.AddrPortFrom(address, uint16(port.NodePort))}
			switch {
			case port.NodePort == 0 || port.Protocol == v1.ProtocolSCTP:
				continue
			case port.Protocol == v1.ProtocolUDP:
				key.kind = udp
			}
			only := ""
			if local {
				only = node.Name
			}
			// Without endpoints nobody listens: the client is refused.
			if endpoints := choose(slices, port, address.Is6(), only); len(endpoints) > 0 && hasFamily(service, address.Is6()) {
				wants[key] = want{service: service, endpoints: endpoints}
			}
		}
		if port := service.Spec.HealthCheckNodePort; local && port != 0 {
			key := listenerKey{at: netip.AddrPortFrom(address, uint16(port)), kind: health}
			wants[key] = want{service: service, local: countReady(slices, node.Name)}
		}
	}
}

func hasFamily(service *v1.Service, six bool) bool {
	for _, family := range service.Spec.IPFamilies {
		if (family == v1.IPv6Protocol) == six {
			return true
		}
	}
	return false
}

// choose returns the endpoints of a Service's port that take new connections, of one family, on one node only if that
// is named: those that are ready, or, if there are none, those that end but still serve.
func choose(slices []*discovery.EndpointSlice, port v1.ServicePort, six bool, node string) []netip.AddrPort {
	family := discovery.AddressTypeIPv4
	if six {
		family = discovery.AddressTypeIPv6
	}
	var ready, serving []netip.AddrPort
	for _, slice := range slices {
		if slice.AddressType != family {
			continue
		}
		for _, p := range slice.Ports {
			if p.Port == nil || deref(p.Name, "") != port.Name || deref(p.Protocol, v1.ProtocolTCP) != port.Protocol {
				continue
			}
			for _, e := range slice.Endpoints {
				if len(e.Addresses) == 0 || node != "" && deref(e.NodeName, "") != node {
					continue
				}
				address, err := netip.ParseAddr(e.Addresses[0])
				if err != nil {
					continue
				}
				at := netip.AddrPortFrom(address, uint16(*p.Port))
				if deref(e.Conditions.Ready, true) {
					ready = append(ready, at)
				} else if deref(e.Conditions.Serving, false) && deref(e.Conditions.Terminating, false) {
					serving = append(serving, at)
				}
			}
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return serving
}

// countReady counts the ready endpoints on a node, each Pod once.
func countReady(slices []*discovery.EndpointSlice, node string) int {
	byFamily := map[discovery.AddressType]map[string]bool{}
	most := 0
	for _, slice := range slices {
		if byFamily[slice.AddressType] == nil {
			byFamily[slice.AddressType] = map[string]bool{}
		}
		for _, e := range slice.Endpoints {
			if deref(e.NodeName, "") == node && deref(e.Conditions.Ready, true) && len(e.Addresses) > 0 {
				byFamily[slice.AddressType][e.Addresses[0]] = true
			}
		}
		most = max(most, len(byFamily[slice.AddressType]))
	}
	return most
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
