package e2b

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	// envdPort is the port of the guest's server.
	envdPort = 49983
	// sampleTimeout bounds the question to one guest for a sample or its processes.
	sampleTimeout = 5 * time.Second
	// maxSampleBytes bounds its answer.
	maxSampleBytes = 64 << 10
	// maxSampled is the largest number of sandboxes of one request.
	maxSampled = 100
	// samplers is the number of guests that one request asks at once.
	samplers = 8
)

// metricJSON is the schema SandboxMetric.
type metricJSON struct {
	Timestamp     time.Time `json:"timestamp"`
	TimestampUnix int64     `json:"timestampUnix"`
	CPUCount      int64     `json:"cpuCount"`
	CPUUsedPct    float64   `json:"cpuUsedPct"`
	MemUsed       int64     `json:"memUsed"`
	MemTotal      int64     `json:"memTotal"`
	MemCache      int64     `json:"memCache"`
	DiskUsed      int64     `json:"diskUsed"`
	DiskTotal     int64     `json:"diskTotal"`
}

// metrics answers with the kept samples of the asked range, and a sample of now if now is
// in it and the sandbox runs.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	now := time.Now()
	from, to, err := rangeOf(r.URL.Query())
	if err != nil {
		return err
	}
	if from <= now.Unix() && now.Unix() <= to && row.State == sandbox.Running {
		m, err := s.sample(r.Context(), row, now)
		if err != nil {
			return err
		}
		s.samples.keep(row.ID, m)
	}
	writeJSON(w, http.StatusOK, s.samples.between(row.ID, from, to))
	return nil
}

// rangeOf returns the times start and end of a query, in seconds since 1970.
func rangeOf(q url.Values) (from, to int64, err error) {
	to = math.MaxInt64
	for name, dst := range map[string]*int64{"start": &from, "end": &to} {
		if text := q.Get(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return 0, 0, invalid("%s must be a time in seconds since 1970", name)
			}
			*dst = n
		}
	}
	if from > to {
		return 0, 0, invalid("start must not be after end")
	}
	return from, to, nil
}

// manyMetrics answers with a sample of each sandbox that runs.
func (s *server) manyMetrics(w http.ResponseWriter, r *http.Request) error {
	ids := strings.Split(r.URL.Query().Get("sandbox_ids"), ",")
	if len(ids) > maxSampled || ids[0] == "" {
		return invalid("sandbox_ids must be from 1 to %d ids with commas between them", maxSampled)
	}
	var mu sync.Mutex // protects out
	out := make(map[string]metricJSON)
	var wg sync.WaitGroup
	places := make(chan struct{}, samplers)
	for _, text := range ids {
		id, err := sandbox.ParseID(text)
		if err != nil {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			err := fault.Caught(func() error {
				row, err := s.find(r.Context(), id)
				if err != nil || row.State != sandbox.Running {
					return err
				}
				m, err := s.sample(r.Context(), row, time.Now())
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					out[string(id)] = m
				}
				return err
			})
			if err != nil {
				s.Log.DebugContext(r.Context(), "no sample of a sandbox", "sandbox", id, "error", err)
			}
		})
	}
	wg.Wait()
	writeJSON(w, http.StatusOK, map[string]any{"sandboxes": out})
	return nil
}

// sample asks the guest of a running sandbox. The guest is not trusted: its numbers are
// taken as numbers, and nothing else of its answer.
func (s *server) sample(ctx context.Context, row control.Sandbox, now time.Time) (metricJSON, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	guest := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxSampleBytes,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.Sandboxes.DialPort(ctx, row.ID, envdPort, control.Passive) // a client may ask all the time
		},
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guest/metrics", nil)
	if err != nil {
		return metricJSON{}, err
	}
	req.Header.Set("X-Access-Token", row.Spec.EnvdTokenOf(row.ID))
	answer, err := guest.Do(req)
	if err != nil {
		return metricJSON{}, unsampled(row, err)
	}
	defer answer.Body.Close()
	var in struct {
		CPUCount   int64   `json:"cpu_count"`
		CPUUsedPct float64 `json:"cpu_used_pct"`
		MemUsed    int64   `json:"mem_used"`
		MemTotal   int64   `json:"mem_total"`
		MemCache   int64   `json:"mem_cache"`
		DiskUsed   int64   `json:"disk_used"`
		DiskTotal  int64   `json:"disk_total"`
	}
	if answer.StatusCode != http.StatusOK {
		return metricJSON{}, unsampled(row, fault.New(fault.HostFailed, "invalid_answer", "the guest answered with status %d", answer.StatusCode))
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxSampleBytes)).Decode(&in); err != nil {
		return metricJSON{}, unsampled(row, err)
	}
	return metricJSON{
		Timestamp: now.UTC(), TimestampUnix: now.Unix(), CPUCount: in.CPUCount, CPUUsedPct: in.CPUUsedPct,
		MemUsed: in.MemUsed, MemTotal: in.MemTotal, MemCache: in.MemCache, DiskUsed: in.DiskUsed, DiskTotal: in.DiskTotal,
	}, nil
}

// unsampled is the answer when a guest gives no sample.
func unsampled(row control.Sandbox, cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "guest_unresponsive", "the guest of sandbox %s gave no metrics; try again", row.ID)
}
