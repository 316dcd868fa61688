// Package rtnl makes whole ranges of addresses local to this network namespace, by the few netlink messages that takes.
package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Loopback brings lo up.
func Loopback() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	info := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(info[4:], uint32(lo.Index))
	binary.NativeEndian.PutUint32(info[8:], unix.IFF_UP)  // flags
	binary.NativeEndian.PutUint32(info[12:], unix.IFF_UP) // which of them change
	if err := request(unix.RTM_NEWLINK, 0, info); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	return nil
}

// Local makes every address of the range an address of this host. Connections from here to one of them come from the
// loopback address unless the caller binds another: without that they would come from the address they go to.
func Local(p netip.Prefix) error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	family, from := unix.AF_INET, netip.MustParseAddr("127.0.0.1")
	if p.Addr().Is6() {
		family, from = unix.AF_INET6, netip.IPv6Loopback()
	}
	route := []byte{
		byte(family), byte(p.Bits()), 0, 0,
		unix.RT_TABLE_LOCAL, unix.RTPROT_BOOT, unix.RT_SCOPE_HOST, unix.RTN_LOCAL,
		0, 0, 0, 0,
	}
	route = attribute(route, unix.RTA_DST, p.Masked().Addr().AsSlice())
	route = attribute(route, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(lo.Index)))
	route = attribute(route, unix.RTA_PREFSRC, from.AsSlice())
	if err := request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, route); err != nil {
		return fmt.Errorf("local route for %s: %w", p, err)
	}
	return nil
}

func attribute(to []byte, kind uint16, value []byte) []byte {
	to = binary.NativeEndian.AppendUint16(to, uint16(unix.SizeofRtAttr+len(value)))
	to = binary.NativeEndian.AppendUint16(to, kind)
	to = append(to, value...)
	for len(to)%4 != 0 {
		to = append(to, 0)
	}
	return to
}

// request sends one message and waits for the kernel's verdict.
func request(kind uint16, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	message := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	message = binary.NativeEndian.AppendUint16(message, kind)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	message = binary.NativeEndian.AppendUint32(message, 1)
	message = binary.NativeEndian.AppendUint32(message, 0)
	message = append(message, body...)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 8192)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("netlink gave no verdict")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
