// Package toy is what runs in the lab's containers: small servers on a Pod's addresses, which say who they are.
package toy

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	// A port may still be held by a Pod that is on its way out, as with the host's network.
	retryEvery = 200 * time.Millisecond
	// A connection that has sent nothing yet may have sent it by now.
	newPatience = 50 * time.Millisecond
)

// Port is one that the app listens at, on each of its addresses.
type Port struct {
	Number uint16
	UDP    bool
}

// App is one Pod's server.
type App struct {
	name   string
	server http.Server
	// listening is called when the last listener is bound.
	listening func()

	mu      sync.Mutex
	unbound int
	closed  bool
	closers []io.Closer
	conns   map[net.Conn]http.ConnState
	empty   chan struct{} // closed when draining and no connection is left

	ending chan struct{} // closed when it drains: what answers without end is to end
	ended  chan struct{} // closed when it listens no more
}

// Start makes the app listen on every port of every address once that time is over, and returns at once. Where it
// cannot listen it tries again until it is told to end.
func Start(name string, addresses []netip.Addr, ports []Port, after time.Duration, listening func()) *App {
	a := &App{
		name:      name,
		listening: listening,
		conns:     map[net.Conn]http.ConnState{},
		ending:    make(chan struct{}),
		ended:     make(chan struct{}),
	}
	a.server = http.Server{
		Handler:   handler(name, a.ending),
		ConnState: a.track,
		ErrorLog:  quiet,
	}
	a.unbound = len(addresses) * len(ports)
	for _, address := range addresses {
		for _, port := range ports {
			at := netip.AddrPortFrom(address, port.Number)
			if after > 0 {
				go a.bindLater(at, port.UDP, after)
			} else if !a.bind(at, port.UDP) {
				go a.bindLater(at, port.UDP, retryEvery)
			}
		}
	}
	return a
}

// Listening tells whether all ports are bound.
func (a *App) Listening() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unbound == 0
}

func (a *App) bindLater(at netip.AddrPort, udp bool, after time.Duration) {
	for {
		select {
		case <-a.ended:
			return
		case <-time.After(after):
		}
		after = retryEvery
		if a.bind(at, udp) {
			if a.Listening() {
				a.listening()
			}
			return
		}
	}
}

// bind returns whether it is done with that address.
func (a *App) bind(at netip.AddrPort, udp bool) bool {
	if udp {
		c, err := listenUDP(at)
		if err != nil {
			return false
		}
		if a.bound(c) {
			go echo(c, a.name)
		}
		return true
	}
	l, err := listenTCP(at)
	if err != nil {
		return false
	}
	if a.bound(l) {
		go func() { _ = a.server.Serve(l) }()
	}
	return true
}

// bound keeps what listens now, unless the app has ended meanwhile.
func (a *App) bound(c io.Closer) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		c.Close()
		return false
	}
	a.closers = append(a.closers, c)
	a.unbound--
	return true
}

func (a *App) track(c net.Conn, state http.ConnState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(a.conns, c)
		if len(a.conns) == 0 && a.empty != nil {
			close(a.empty)
			a.empty = nil
		}
		return
	}
	a.conns[c] = state
}

// unlisten closes the listeners. Connections stay.
func (a *App) unlisten() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		close(a.ended)
	}
	for _, c := range a.closers {
		c.Close()
	}
	a.closers = nil
}

// Drain ends the app as a well-behaved server ends: it accepts nothing more, closes idle connections, answers the
// requests in flight, and brings streams to their last chunk. The channel is closed when it is done.
func (a *App) Drain() <-chan struct{} {
	done := make(chan struct{})
	a.unlisten()
	defer close(a.ending)
	a.mu.Lock()
	if len(a.conns) == 0 {
		a.mu.Unlock()
		close(done)
		return done
	}
	a.empty = done
	a.mu.Unlock()
	a.server.SetKeepAlivesEnabled(false) // closes those that are idle, too
	time.AfterFunc(newPatience, func() {
		a.mu.Lock()
		var silent []net.Conn
		for c, state := range a.conns {
			if state == http.StateNew || state == http.StateIdle {
				silent = append(silent, c)
			}
		}
		a.mu.Unlock()
		for _, c := range silent {
			c.Close()
		}
	})
	return done
}

// Kill ends the app as SIGKILL would: every connection is reset.
func (a *App) Kill() {
	a.unlisten()
	a.mu.Lock()
	var conns []net.Conn
	for c := range a.conns {
		conns = append(conns, c)
	}
	a.mu.Unlock()
	for _, c := range conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
}
