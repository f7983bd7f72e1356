//go:build !amd64

package tsc

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const supported = false

func fromCPUID() uint64 { return 0 }

func measure(time.Duration) (uint64, error) {
	return 0, fault.New(fault.Unsupported, "no_tsc", "only x86-64 hosts have a time stamp counter")
}

func features() string { return "" }

func scaling() bool { return false }
