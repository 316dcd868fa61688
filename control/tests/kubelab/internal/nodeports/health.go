package nodeports

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"

	"podline.io/kubelab/internal/toy"
)

// kube-proxy's answer, to the letter.
const healthBody = `{
	"service": {
		"namespace": %q,
		"name": %q
	},
	"localEndpoints": %d,
	"serviceProxyHealthy": true
}`

// healthListener answers at a Service's healthCheckNodePort whether this node has endpoints.
type healthListener struct {
	http.Server
	now atomic.Pointer[want]
}

func listenHealth(at netip.AddrPort) (listener, error) {
	config := toy.Config()
	socket, err := config.Listen(context.Background(), "tcp", at.String())
	if err != nil {
		return nil, err
	}
	l := &healthListener{}
	l.Handler = l
	go func() { _ = l.Serve(socket) }()
	return l, nil
}

func (l *healthListener) update(w want) { l.now.Store(&w) }

func (l *healthListener) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	now := l.now.Load()
	if now == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(now.local))
	if now.local == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintf(w, healthBody, now.service.Namespace, now.service.Name, now.local)
}
