package envd

import (
	"bytes"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/linux/proc"
	"github.com/wrenn-dev/wrenn/internal/linux/statfs"
)

// metricsBody is the answer to GET /metrics. Sizes are bytes unless they say
// otherwise.
type metricsBody struct {
	TS          int64   `json:"ts"`
	CPUCount    int     `json:"cpu_count"`
	CPUUsedPct  float64 `json:"cpu_used_pct"`
	MemTotal    uint64  `json:"mem_total"`
	MemUsed     uint64  `json:"mem_used"`
	MemCache    uint64  `json:"mem_cache"`
	MemTotalMiB uint64  `json:"mem_total_mib"`
	MemUsedMiB  uint64  `json:"mem_used_mib"`
	DiskUsed    uint64  `json:"disk_used"`
	DiskTotal   uint64  `json:"disk_total"`
}

// metrics serves GET /metrics.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	mem, _ := proc.ReadMemInfo() // sizes that cannot be read are 0
	m := metricsBody{
		TS: time.Now().Unix(), CPUCount: runtime.NumCPU(), CPUUsedPct: s.load.percent(),
		MemTotal: mem["MemTotal"], MemUsed: mem["MemTotal"] - mem["MemAvailable"], MemCache: mem["Cached"],
	}
	m.MemTotalMiB, m.MemUsedMiB = m.MemTotal>>20, m.MemUsed>>20
	if fs, err := statfs.Path("/"); err == nil {
		m.DiskTotal, m.DiskUsed = fs.Size, fs.Size-fs.Free
	}
	writeJSON(w, http.StatusOK, m)
}

// loadMeter measures CPU use since its last reading; the first reading gives the
// average since boot.
type loadMeter struct {
	mu          sync.Mutex // protects the following
	busy, total uint64
}

// percent returns the use of all CPUs together, from 0 to 100.
func (l *loadMeter) percent() float64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	var busy, total uint64
	// Fields 1 to 8: user nice system idle iowait irq softirq steal (proc_stat(5)).
	for i, f := range bytes.Fields(line) {
		n, err := strconv.ParseUint(string(f), 10, 64)
		if err != nil || i > 8 {
			continue
		}
		total += n
		if i != 4 && i != 5 {
			busy += n
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	dBusy, dTotal := busy-l.busy, total-l.total
	l.busy, l.total = busy, total
	if dTotal == 0 || dBusy > dTotal {
		return 0
	}
	return 100 * float64(dBusy) / float64(dTotal)
}
