package nodeports

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podline.io/kubelab/internal/toy"
)

const dialPatience = 10 * time.Second

type tcpListener struct {
	net.Listener
	node      netip.Addr
	endpoints atomic.Pointer[[]netip.AddrPort]
}

func listenTCP(at netip.AddrPort) (listener, error) {
	config := toy.Config()
	socket, err := config.Listen(context.Background(), "tcp", at.String())
	if err != nil {
		return nil, err
	}
	l := &tcpListener{Listener: socket, node: at.Addr()}
	l.endpoints.Store(&[]netip.AddrPort{})
	go l.accept()
	return l, nil
}

func (l *tcpListener) update(w want) { l.endpoints.Store(&w.endpoints) }

func (l *tcpListener) accept() {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		go l.forward(client.(*net.TCPConn))
	}
}

// forward joins a client to an endpoint, as seen from there a connection from the node.
func (l *tcpListener) forward(client *net.TCPConn) {
	to, ok := pick(*l.endpoints.Load())
	if !ok {
		reset(client)
		return
	}
	dialer := net.Dialer{
		Timeout:   dialPatience,
		KeepAlive: -1,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(l.node, 0)),
		Control: func(network, address string, c syscall.RawConn) error {
			// The source port is chosen for the whole connection, not for the address alone.
			_ = c.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			})
			return toy.FreeBind(network, address, c)
		},
	}
	upstream, err := dialer.Dial("tcp", to.String())
	if err != nil {
		reset(client)
		return
	}
	server := upstream.(*net.TCPConn)
	var both sync.WaitGroup
	both.Go(func() { pump(server, client) })
	both.Go(func() { pump(client, server) })
	both.Wait()
	client.Close()
	server.Close()
}

// pump copies one direction to its end; a reset on one side is one on the other.
func pump(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		reset(from)
		return
	}
	_ = to.CloseWrite()
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

func pick(endpoints []netip.AddrPort) (netip.AddrPort, bool) {
	if len(endpoints) == 0 {
		return netip.AddrPort{}, false
	}
	return endpoints[rand.IntN(len(endpoints))], true
}
