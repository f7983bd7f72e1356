package bench

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// guestFile is the path of the transferred file in the sandbox.
const guestFile = "/var/tmp/bench"

// transfer measures upload and download of a file, and compares the contents.
func (r *run) transfer(ctx context.Context, id string) error {
	sent := crc32.NewIEEE()
	// The content is neither compressible nor sparse, and cheap to generate.
	content := io.LimitReader(rand.NewChaCha8([32]byte{1}), r.FileBytes)
	began := time.Now()
	err := r.Client.WriteFile(ctx, id, client.Upload{Path: guestFile, Size: r.FileBytes}, io.TeeReader(content, sent))
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	r.add(opUpload, rate(r.FileBytes, began))
	began = time.Now()
	file, err := r.Client.ReadFile(ctx, id, guestFile, "")
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	defer file.Body.Close()
	got := crc32.NewIEEE()
	n, err := io.Copy(got, file.Body)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	r.add(opDownload, rate(r.FileBytes, began))
	if n != r.FileBytes || got.Sum32() != sent.Sum32() {
		return r.failRun(ctx, errors.New("the downloaded file differs from the uploaded one"))
	}
	return nil
}

// rate returns the throughput, in MiB/s, of a transfer that began at began.
func rate(bytes int64, began time.Time) float64 {
	return float64(bytes) / (1 << 20) / time.Since(began).Seconds()
}
