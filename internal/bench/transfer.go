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

// guestFile is where the file goes in the sandbox.
const guestFile = "/var/tmp/bench"

// transfer sends a file in and fetches it again, and checks that it is the same.
func (r *run) transfer(ctx context.Context, id string) error {
	sent := crc32.NewIEEE()
	// Neither compressible nor sparse, and cheap to make.
	content := io.LimitReader(rand.NewChaCha8([32]byte{1}), r.FileBytes)
	began := time.Now()
	err := r.Client.WriteFile(ctx, id, client.Upload{Path: guestFile, Size: r.FileBytes}, io.TeeReader(content, sent))
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	r.add(opUpload, r.rate(began))
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
	r.add(opDownload, r.rate(began))
	if n != r.FileBytes || got.Sum32() != sent.Sum32() {
		return r.breaks(ctx, errors.New("the file that came out is not the one that went in"))
	}
	return nil
}

// rate is the throughput of a file since began.
func (r *run) rate(began time.Time) float64 {
	return float64(r.FileBytes) / (1 << 20) / time.Since(began).Seconds()
}
