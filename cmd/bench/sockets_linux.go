package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Of linux/inet_diag.h, see sock_diag(7).
const (
	diagMemInfo    = 7  // the attribute INET_DIAG_SKMEMINFO
	diagRequest    = 56 // bytes of inet_diag_req_v2
	diagMessage    = 72 // bytes of inet_diag_msg
	tcpEstablished = 1
)

// socketMemory asks the kernel what the buffers of the established connections
// of a local IPv4 port hold, in bytes for each connection.
func socketMemory(port uint16) ([]int64, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("ask for sockets: %w", err)
	}
	defer unix.Close(fd) // it was only to ask
	var ask [unix.NLMSG_HDRLEN + diagRequest]byte
	order := binary.NativeEndian
	order.PutUint32(ask[0:], uint32(len(ask)))
	order.PutUint16(ask[4:], unix.SOCK_DIAG_BY_FAMILY)
	order.PutUint16(ask[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request := ask[unix.NLMSG_HDRLEN:]
	request[0], request[1], request[2] = unix.AF_INET, unix.IPPROTO_TCP, 1<<(diagMemInfo-1)
	order.PutUint32(request[4:], 1<<tcpEstablished)
	if err := unix.Sendto(fd, ask[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask for sockets: %w", err)
	}
	var found []int64
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			return nil, fmt.Errorf("ask for sockets: %w", err)
		}
		for rest := buffer[:n]; len(rest) >= unix.NLMSG_HDRLEN; {
			size := int(order.Uint32(rest))
			if size < unix.NLMSG_HDRLEN || size > len(rest) {
				return nil, errors.New("ask for sockets: an answer that is cut short")
			}
			switch kind := order.Uint16(rest[4:]); kind {
			case unix.NLMSG_DONE:
				return found, nil
			case unix.NLMSG_ERROR:
				return nil, errors.New("ask for sockets: the kernel refuses")
			}
			message := rest[unix.NLMSG_HDRLEN:size]
			// Behind four bytes comes the local port, as the network writes it.
			if len(message) >= diagMessage && binary.BigEndian.Uint16(message[4:]) == port {
				found = append(found, memInfo(message[diagMessage:]))
			}
			rest = rest[min(len(rest), (size+3)&^3):]
		}
	}
}

// memInfo finds the attribute and adds up what the buffers hold.
func memInfo(attributes []byte) int64 {
	order := binary.NativeEndian
	for len(attributes) >= unix.SizeofRtAttr {
		size := int(order.Uint16(attributes))
		if size < unix.SizeofRtAttr || size > len(attributes) {
			return 0
		}
		if values := attributes[unix.SizeofRtAttr:size]; order.Uint16(attributes[2:]) == diagMemInfo && len(values) > 4*unix.SK_MEMINFO_WMEM_QUEUED+3 {
			at := func(i int) int64 { return int64(order.Uint32(values[4*i:])) }
			return at(unix.SK_MEMINFO_RMEM_ALLOC) + at(unix.SK_MEMINFO_FWD_ALLOC) + at(unix.SK_MEMINFO_WMEM_QUEUED)
		}
		attributes = attributes[min(len(attributes), (size+3)&^3):]
	}
	return 0
}
