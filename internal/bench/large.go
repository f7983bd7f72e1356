package bench

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// large measures the transfer of LargeBytes, once: by the paths of E2B's clients into a
// file and out of it, and from a program that listens on a port.
func (r *run) large(ctx context.Context) error {
	size := r.restoreSize
	size.DiskMB = max(size.DiskMB, int(r.LargeBytes>>20)*3/2)
	sb, err := r.create(ctx, size)
	if err != nil {
		return err
	}
	token, err := r.publicToken(ctx, sb.ID)
	if err != nil {
		return err
	}
	const file = "/files?username=root&path=" + guestFile
	sent, got := crc32.NewIEEE(), crc32.NewIEEE()
	header := publicHeader(sb.ID, token)
	header.Set("Content-Type", "application/octet-stream")
	began := time.Now()
	body, err := r.do(ctx, http.MethodPost, file, sizedBody{io.TeeReader(newBlocks(r.LargeBytes), sent), r.LargeBytes}, header)
	if err != nil {
		return fmt.Errorf("upload by /files: %w", err)
	}
	if err := errors.Join(drain(body), body.Close()); err != nil {
		return fmt.Errorf("upload by /files: %w", err)
	}
	r.add(opLargeUpload, rate(r.LargeBytes, began))
	began = time.Now()
	if body, err = r.do(ctx, http.MethodGet, file, nil, publicHeader(sb.ID, token)); err != nil {
		return fmt.Errorf("download by /files: %w", err)
	}
	defer body.Close()
	n, err := io.Copy(got, body)
	if err != nil {
		return fmt.Errorf("download by /files: %w", err)
	}
	r.add(opLargeDownload, rate(r.LargeBytes, began))
	if n != r.LargeBytes || got.Sum32() != sent.Sum32() {
		return r.failRun(ctx, errors.New("the file downloaded by /files differs from the uploaded one"))
	}
	return r.port(ctx, sb.ID, r.LargeBytes, opLargePort)
}

func drain(from io.Reader) error {
	_, err := io.Copy(io.Discard, from)
	return err
}

// blocks repeats a block of random bytes: content that cannot be compressed, and that
// costs its reader less than the server costs.
type blocks struct {
	block []byte
	at    int
}

// newBlocks returns size bytes of blocks.
func newBlocks(size int64) io.Reader {
	b := &blocks{block: make([]byte, 1<<20)}
	_, _ = rand.NewChaCha8([32]byte{2}).Read(b.block) // never fails
	return io.LimitReader(b, size)
}

func (b *blocks) Read(into []byte) (int, error) {
	n := copy(into, b.block[b.at:])
	b.at = (b.at + n) % len(b.block)
	return n, nil
}
