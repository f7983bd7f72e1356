package host

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

const (
	// renewedLimit is how long a create waits for the programs of its template.
	renewedLimit = 2 * time.Second
	// renewedPoolLimit is how long a warm clone waits for them. It has little of the CPU.
	renewedPoolLimit = 10 * time.Second
	// maxRenewed bounds the head of their answer, in bytes. Its body is not read.
	maxRenewed = 4096
	// maxRenewedError bounds the part of a wrong answer that the log shows, in bytes.
	maxRenewedError = 256
)

// awaitRenewed waits until the programs that the template's snapshot holds have prepared
// themselves for the clone, at most for limit. The guest sends the answer, so that
// each answer ends the wait and has no other effect.
func (b *body) awaitRenewed(ctx context.Context, start image.Start, limit time.Duration) {
	if start.RenewedPort == 0 {
		return
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := askRenewed(ctx, b.Guest(), start.RenewedPort, start.RenewedPath)
	if err != nil {
		b.log.DebugContext(ctx, "not waiting for the programs of the template any longer", "after", time.Since(begun), "error", untrusted.Line(err.Error(), maxRenewedError))
	}
	if b.rec.RestoreReport != nil {
		b.rec.RestoreReport.Steps["template_programs"] = time.Since(begun)
	}
}

// askRenewed sends one GET request to a port of the guest and waits for the status 200. It
// returns when ctx ends at the latest.
func askRenewed(ctx context.Context, guest *guestclient.Client, port uint16, path string) error {
	conn, err := guest.DialPort(ctx, port)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxRenewed)), nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer has the status %d", answer.StatusCode)
	}
	return nil
}
