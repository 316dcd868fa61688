package toy

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Config listens and dials at addresses that no interface carries: the route that makes them local is enough for IPv4,
// IPv6 wants the option.
func Config() net.ListenConfig {
	return net.ListenConfig{Control: FreeBind, KeepAlive: -1}
}

// FreeBind is the Control of a net.ListenConfig or net.Dialer.
func FreeBind(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	})
	if err != nil {
		return err
	}
	return failed
}

func listenTCP(at netip.AddrPort) (net.Listener, error) {
	config := Config()
	return config.Listen(context.Background(), "tcp", at.String())
}

func listenUDP(at netip.AddrPort) (*net.UDPConn, error) {
	config := Config()
	c, err := config.ListenPacket(context.Background(), "udp", at.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}
