package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// errTaken ends Flush once the messages have been taken from the library.
var errTaken = errors.New("the batch is sent elsewhere")

// commit sends the messages that fill queues to the calling thread's namespace, as one
// transaction. The library encodes the messages, but does not send them: it asks
// for an acknowledgement and an echo of each and reads them one by one, which
// for the rules of a sandbox costs as much as the kernel's work.
func commit(fill func(*nftables.Conn) error) error {
	batch, err := encode(fill)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return sendBatch(fd, batch)
}

// encode returns the messages of the transaction that fill queues.
func encode(fill func(*nftables.Conn) error) ([]netlink.Message, error) {
	var batch []netlink.Message
	conn, err := nftables.New(nftables.WithTestDial(func(messages []netlink.Message) ([]netlink.Message, error) {
		if len(messages) > 0 {
			batch = append(batch, messages...)
		}
		return nil, errTaken
	}))
	if err != nil {
		return nil, err
	}
	if err := fill(conn); err != nil {
		return nil, err
	}
	if err := conn.Flush(); !errors.Is(err, errTaken) {
		return nil, err
	}
	return batch, nil
}

// batchEnds is the number of messages that every batch has: its begin, at least
// one with content, and its end.
const batchEnds = 3

// sendBatch sends a batch of nftables messages by the socket fd and waits for the outcome. Only
// the last message before the end asks for an acknowledgement. The kernel tells
// of errors in any case, and does all of it before send(2) returns.
func sendBatch(fd int, batch []netlink.Message) error {
	if len(batch) < batchEnds {
		return fmt.Errorf("a batch of %d messages", len(batch))
	}
	last := &batch[len(batch)-2]
	var data []byte
	for i := range batch {
		batch[i].Header.Flags &^= netlink.Acknowledge | unix.NLM_F_ECHO
		batch[i].Header.PID = 0
		if &batch[i] == last {
			batch[i].Header.Flags |= netlink.Acknowledge
		}
		message, err := batch[i].MarshalBinary()
		if err != nil {
			return err
		}
		data = append(data, message...)
	}
	const defaultRoom = 64 << 10
	if len(data) > defaultRoom {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(data)); err != nil {
			return err
		}
	}
	if err := unix.Sendto(fd, data, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return awaitAck(fd, last.Header.Sequence)
}

// awaitAck reads the answers, which are there already, up to that to the message
// with the number last.
func awaitAck(fd int, last uint32) error {
	buf := make([]byte, 16<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return fmt.Errorf("no acknowledgement from nftables: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
				continue
			}
			if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
				return unix.Errno(-code)
			}
			if m.Header.Seq == last {
				return nil
			}
		}
	}
}
