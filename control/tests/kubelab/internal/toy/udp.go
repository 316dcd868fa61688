package toy

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

const maxDatagram = 1 << 16

// Thousands of sockets share few buffers: one is taken only once a datagram is there.
var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// echo answers each datagram with the name, a space and what came, until the socket is closed.
func echo(c *net.UDPConn, name string) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	prefix := append([]byte(name), ' ')
	for {
		err := raw.Read(func(fd uintptr) bool {
			buffer := datagrams.Get().(*[maxDatagram]byte)
			defer datagrams.Put(buffer)
			at := copy(buffer[:], prefix)
			n, from, err := unix.Recvfrom(int(fd), buffer[at:], unix.MSG_DONTWAIT)
			if err == unix.EAGAIN {
				return false
			}
			if err == nil {
				_ = unix.Sendto(int(fd), buffer[:at+n], unix.MSG_DONTWAIT, from)
			}
			return true
		})
		if err != nil {
			return
		}
	}
}
