// Package plan says which names and addresses the nodes of the lab have. Everything follows from a node's number, so
// that no process has to tell another.
package plan

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultMaxPods fits in the /24 that a node has by default.
const DefaultMaxPods = 250

// MaxNodes is the highest number of a node whose address still fits.
const MaxNodes = 200

// Ranges from which the API server gives out addresses of Services.
const ServiceRanges = "10.96.0.0/12,fd00:10:96::/112"

// PodRanges hold the addresses of all Pods.
var PodRanges = []netip.Prefix{
	netip.MustParsePrefix("10.244.0.0/16"),
	netip.MustParsePrefix("fd00:10:244::/48"),
}

// Node is a node of the lab.
type Node struct {
	Name   string
	Number int
	// V4 and V6 are its internal addresses.
	V4, V6 netip.Addr
	// Pods4 and Pods6 are the ranges of its Pods' addresses.
	Pods4, Pods6 netip.Prefix
	// Zone is empty for every fourth node. (Not for one of the usual three: the scheduler prefers nodes without a zone,
	// and all Pods would be there.)
	Zone string
}

// Name returns the name of node number n, counted from 1.
func Name(n int) string {
	return "node-" + strconv.Itoa(n)
}

// Parse finds the node with that name; maxPods sizes its ranges.
func Parse(name string, maxPods int) (Node, error) {
	digits, found := strings.CutPrefix(name, "node-")
	n, err := strconv.Atoi(digits)
	if !found || err != nil || Name(n) != name {
		return Node{}, fmt.Errorf("%q is no name of a node, such as node-1", name)
	}
	return New(n, maxPods)
}

// Addresses are the internal ones of node number n.
func Addresses(n int) (v4, v6 netip.Addr) {
	return netip.AddrFrom4([4]byte{10, 89, 0, byte(10 + n)}), netip.MustParseAddr(fmt.Sprintf("fd00:10:89::%d", 10+n))
}

// New returns node number n; maxPods sizes its ranges.
func New(n, maxPods int) (Node, error) {
	if n < 1 || n > MaxNodes {
		return Node{}, fmt.Errorf("node %d: nodes are numbered from 1 to %d", n, MaxNodes)
	}
	hostBits := 8
	for 1<<hostBits < maxPods+3 { // the network, the gateway and the broadcast address stay unused
		hostBits++
	}
	if (n+1)<<hostBits > 1<<16 {
		return Node{}, fmt.Errorf("node %d: %d Pods on each of so many nodes do not fit in %s", n, maxPods, PodRanges[0])
	}
	offset := n << hostBits
	base := netip.AddrFrom4([4]byte{10, 244, byte(offset >> 8), byte(offset)})
	v4, v6 := Addresses(n)
	node := Node{
		Name:   Name(n),
		Number: n,
		V4:     v4,
		V6:     v6,
		Pods4:  netip.PrefixFrom(base, 32-hostBits),
		Pods6:  netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", n)),
	}
	node.Zone = []string{"", "zone-a", "zone-b", "zone-c"}[n%4]
	return node, nil
}

// Pod returns the two addresses of the Pod in that place of the node's ranges, and whether there is such a place.
func (n Node) Pod(place int) (v4, v6 netip.Addr, ok bool) {
	if place < 2 || place >= 1<<(32-n.Pods4.Bits())-1 {
		return v4, v6, false
	}
	a := n.Pods4.Addr().As4()
	sum := int(a[2])<<8 + int(a[3]) + place
	a[2], a[3] = byte(sum>>8), byte(sum)
	b := n.Pods6.Addr().As16()
	b[14], b[15] = byte(place>>8), byte(place)
	return netip.AddrFrom4(a), netip.AddrFrom16(b), true
}

// Place is the reverse of Pod, for a Pod's IPv4 address.
func (n Node) Place(v4 netip.Addr) (place int, ok bool) {
	if !v4.Is4() || !n.Pods4.Contains(v4) {
		return 0, false
	}
	a, b := v4.As4(), n.Pods4.Addr().As4()
	return int(a[2])<<8 + int(a[3]) - int(b[2])<<8 - int(b[3]), true
}
