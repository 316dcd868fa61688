// Package nodeports stands in for kube-proxy, for node ports alone and in userspace: it listens at the node ports of
// Services on every node's addresses and forwards each connection to an endpoint.
package nodeports

import (
	"context"
	"io"
	"log"
	"net/netip"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

const byService = "service"

// Changes come in bursts.
const settle = 5 * time.Millisecond

// Where a port cannot be bound, or was not yet.
const retryEvery = 200 * time.Millisecond

// Proxy is the stand-in. It runs on all nodes at once.
type Proxy struct {
	services corelisters.ServiceLister
	nodes    corelisters.NodeLister
	slices   cache.Indexer
	synced   []cache.InformerSynced
	changed  chan struct{}
	open     map[listenerKey]listener
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

// New sets up what Run needs; the caller starts the informers.
func New(factory informers.SharedInformerFactory) *Proxy {
	p := &Proxy{changed: make(chan struct{}, 1), open: map[listenerKey]listener{}}
	services, nodes := factory.Core().V1().Services(), factory.Core().V1().Nodes()
	slices := factory.Discovery().V1().EndpointSlices().Informer()
	p.services, p.nodes, p.slices = services.Lister(), nodes.Lister(), slices.GetIndexer()
	err := slices.AddIndexers(cache.Indexers{byService: func(o any) ([]string, error) {
		slice := o.(*discovery.EndpointSlice)
		return []string{slice.Namespace + "/" + slice.Labels[discovery.LabelServiceName]}, nil
	}})
	if err != nil {
		panic(err) // only once the informer runs
	}
	wake := func(any) {
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), nodes.Informer(), slices} {
		handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    wake,
			UpdateFunc: func(_, o any) { wake(o) },
			DeleteFunc: wake,
		})
		if err != nil {
			panic(err) // only once the informer has stopped
		}
		p.synced = append(p.synced, handler.HasSynced)
	}
	return p
}

// Run forwards until the context ends.
func (p *Proxy) Run(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), p.synced...) {
		return
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
	services, _ := p.services.List(labels.Everything())
	nodes, _ := p.nodes.List(labels.Everything())
	for _, service := range services {
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
