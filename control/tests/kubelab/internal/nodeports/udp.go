package nodeports

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"podline.io/kubelab/internal/toy"
)

// A flow without a datagram for this long is forgotten, as in connection tracking.
const flowIdle = 30 * time.Second

type udpListener struct {
	*net.UDPConn
	endpoints atomic.Pointer[[]netip.AddrPort]

	mu    sync.Mutex
	flows map[netip.AddrPort]*flow
}

type flow struct {
	*net.UDPConn
	to netip.AddrPort
}

func listenUDP(at netip.AddrPort) (listener, error) {
	config := toy.Config()
	socket, err := config.ListenPacket(context.Background(), "udp", at.String())
	if err != nil {
		return nil, err
	}
	l := &udpListener{UDPConn: socket.(*net.UDPConn), flows: map[netip.AddrPort]*flow{}}
	l.endpoints.Store(&[]netip.AddrPort{})
	go l.receive(at.Addr())
	return l, nil
}

// update ends the flows to endpoints that are no more, as kube-proxy does.
func (l *udpListener) update(w want) {
	l.endpoints.Store(&w.endpoints)
	l.mu.Lock()
	defer l.mu.Unlock()
	for client, f := range l.flows {
		if !slices.Contains(w.endpoints, f.to) {
			f.Close()
			delete(l.flows, client)
		}
	}
}

func (l *udpListener) Close() error {
	l.update(want{})
	return l.UDPConn.Close()
}

func (l *udpListener) receive(node netip.Addr) {
	buffer := make([]byte, 1<<16)
	for {
		n, client, err := l.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if f := l.flow(client, node); f != nil {
			_ = f.SetReadDeadline(time.Now().Add(flowIdle))
			_, _ = f.Write(buffer[:n])
		}
	}
}

// flow returns the client's flow, a new one if need be.
func (l *udpListener) flow(client netip.AddrPort, node netip.Addr) *flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.flows[client]; f != nil {
		return f
	}
	to, ok := pick(*l.endpoints.Load())
	if !ok {
		return nil
	}
	dialer := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(node, 0)),
		Control:   toy.FreeBind,
	}
	socket, err := dialer.Dial("udp", to.String())
	if err != nil {
		return nil
	}
	f := &flow{UDPConn: socket.(*net.UDPConn), to: to}
	l.flows[client] = f
	go l.answer(f, client)
	return f
}

// answer brings the endpoint's datagrams back until the flow is idle or ended.
func (l *udpListener) answer(f *flow, client netip.AddrPort) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := f.Read(buffer)
		if err != nil {
			break
		}
		_ = f.SetReadDeadline(time.Now().Add(flowIdle))
		_, _ = l.WriteToUDPAddrPort(buffer[:n], client)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f.Close()
	if l.flows[client] == f {
		delete(l.flows, client)
	}
}
