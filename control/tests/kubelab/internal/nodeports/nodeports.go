// Package nodeports stands in for kube-proxy, for node ports alone and in userspace: it listens at the node ports of
// Services on every node's addresses and forwards each connection to an endpoint.
package nodeports

import (
	"context"
	"io"
	"log"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/client-go/kubernetes"

	"podline.io/kubelab/internal/mirror"
)

// Changes come in bursts.
const settle = 5 * time.Millisecond

// Where a port cannot be bound, or was not yet.
const retryEvery = 200 * time.Millisecond

// Proxy is the stand-in. It runs on all nodes at once.
type Proxy struct {
	services *mirror.Mirror[*v1.Service]
	nodes    *mirror.Mirror[*v1.Node]
	slices   *mirror.Mirror[*discovery.EndpointSlice]
	changed  chan struct{}
	open     map[listenerKey]listener

	mu        sync.Mutex
	byService map[string]map[string]*discovery.EndpointSlice
}

// listenerKey says where to listen, and what for.
type listenerKey struct {
	at   netip.AddrPort
	kind kind
}

type kind byte

const (
	tcp kind = iota
	udp
	health
)

// listener is one open node port.
type listener interface {
	io.Closer
	update(want)
}

// want is what a listener is to do.
type want struct {
	service   *v1.Service
	endpoints []netip.AddrPort // tcp and udp
	local     int              // health: how many ready endpoints this node has
}

// Start starts to watch; Run does the rest.
func Start(ctx context.Context, client kubernetes.Interface) *Proxy {
	p := &Proxy{
		changed:   make(chan struct{}, 1),
		open:      map[listenerKey]listener{},
		byService: map[string]map[string]*discovery.EndpointSlice{},
	}
	core := client.CoreV1().RESTClient()
	p.services = mirror.Start(ctx, core, "services", &v1.Service{}, func(_, _ *v1.Service) { p.wake() })
	p.nodes = mirror.Start(ctx, core, "nodes", &v1.Node{}, func(_, _ *v1.Node) { p.wake() })
	p.slices = mirror.Start(ctx, client.DiscoveryV1().RESTClient(), "endpointslices", &discovery.EndpointSlice{}, p.index)
	return p
}

func (p *Proxy) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// index keeps the slices of each Service together.
func (p *Proxy) index(was, is *discovery.EndpointSlice) {
	service := func(slice *discovery.EndpointSlice) string {
		return slice.Namespace + "/" + slice.Labels[discovery.LabelServiceName]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if was != nil {
		delete(p.byService[service(was)], was.Name)
		if len(p.byService[service(was)]) == 0 {
			delete(p.byService, service(was))
		}
	}
	if is != nil {
		if p.byService[service(is)] == nil {
			p.byService[service(is)] = map[string]*discovery.EndpointSlice{}
		}
		p.byService[service(is)][is.Name] = is
	}
	p.wake()
}

func (p *Proxy) slicesOf(service *v1.Service) []*discovery.EndpointSlice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.byService[service.Namespace+"/"+service.Name]))
}

// Run forwards until the context ends.
func (p *Proxy) Run(ctx context.Context) {
	for _, synced := range []func(context.Context) error{p.services.Wait, p.nodes.Wait, p.slices.Wait} {
		if synced(ctx) != nil {
			return
		}
	}
	for {
		var retry <-chan time.Time
		if !p.sync() {
			retry = time.After(retryEvery)
		}
		select {
		case <-p.changed:
			time.Sleep(settle)
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}

// sync opens, updates and closes listeners; false if one could not be opened. Connections never suffer from it.
func (p *Proxy) sync() bool {
	wants := map[listenerKey]want{}
	nodes := p.nodes.List()
	for _, service := range p.services.List() {
		if service.Spec.Type == v1.ServiceTypeNodePort || service.Spec.Type == v1.ServiceTypeLoadBalancer {
			for _, node := range nodes {
				p.plan(service, node, wants)
			}
		}
	}
	for key, l := range p.open {
		if _, ok := wants[key]; !ok {
			l.Close()
			delete(p.open, key)
		}
	}
	complete := true
	for key, want := range wants {
		if p.open[key] == nil {
			l, err := listen(key)
			if err != nil {
				log.Printf("node port of %s/%s: %v", want.service.Namespace, want.service.Name, err)
				complete = false
				continue
			}
			p.open[key] = l
		}
		p.open[key].update(want)
	}
	return complete
}

func listen(key listenerKey) (listener, error) {
	switch key.kind {
	case tcp:
		return listenTCP(key.at)
	case udp:
		return listenUDP(key.at)
	default:
		return listenHealth(key.at)
	}
}
