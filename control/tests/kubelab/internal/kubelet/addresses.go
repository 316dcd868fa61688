package kubelet

import (
	"errors"
	"net/netip"
	"sync"

	v1 "k8s.io/api/core/v1"

	"podline.io/kubelab/internal/plan"
)

// addresses gives the Pods of a node their places in its ranges: always the lowest that is free, so that an address is
// soon another Pod's. That is legal, and hard on those who take an address for an identity.
type addresses struct {
	node plan.Node

	mu    sync.Mutex
	taken map[int]bool
	hint  int // no lower place is free
}

func newAddresses(node plan.Node) *addresses {
	return &addresses{node: node, taken: map[int]bool{}, hint: firstPlace}
}

// The network's own address and the gateway's come first.
const firstPlace = 2

var errNoAddress = errors.New("no address is left in the node's range")

func (a *addresses) take() (place int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for place = a.hint; a.taken[place]; place++ {
	}
	if _, _, ok := a.node.Pod(place); !ok {
		return 0, errNoAddress
	}
	a.taken[place], a.hint = true, place+1
	return place, nil
}

// adopt takes the place that a Pod already has. It returns 0 if it has none here.
func (a *addresses) adopt(pod *v1.Pod) int {
	v4, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || pod.Spec.HostNetwork {
		return 0
	}
	place, ok := a.node.Place(v4)
	if !ok {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.taken[place] {
		return 0
	}
	a.taken[place] = true
	return place
}

func (a *addresses) free(place int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.taken, place)
	a.hint = min(a.hint, place)
}
