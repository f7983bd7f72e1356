package bench

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/wrenn-dev/wrenn/client"
)

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		samples      []float64
		unit         Unit
		median, tail float64
	}{
		{[]float64{7}, Milliseconds, 7, 7},
		{[]float64{3, 1}, Milliseconds, 2, 3},
		{[]float64{5, 1, 3}, Milliseconds, 3, 5},
		{[]float64{20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, Milliseconds, 10.5, 19},
		{[]float64{20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, MiBPerSecond, 10.5, 1},
	} {
		before := slices.Clone(c.samples)
		m := Measurement{Unit: c.unit, Samples: c.samples}
		m.summarise()
		if m.Median != c.median || m.Tail != c.tail {
			t.Errorf("%v: median %v, tail %v; want %v, %v", c.samples, m.Median, m.Tail, c.median, c.tail)
		}
		if !slices.Equal(before, m.Samples) {
			t.Errorf("the order of %v was lost", before)
		}
	}
}

func TestSummaryLiesWithinTheSamples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(rapid.Float64Range(0.001, 1e6), 1, 60).Draw(t, "samples")
		m := Measurement{Unit: Milliseconds, Samples: samples}
		m.summarise()
		if m.Min > m.Median || m.Median > m.Max || m.Tail > m.Max || m.Tail < m.Min {
			t.Fatalf("%+v", m)
		}
		over := 0
		for _, s := range samples {
			if s > m.Tail {
				over++
			}
		}
		if float64(over) > 0.05*float64(len(samples)) {
			t.Fatalf("%d of %d samples are above the 95th percentile", over, len(samples))
		}
	})
}

func TestAxisHoldsEverySample(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Float64Range(0.001, 1e6).Draw(t, "low")
		high := low * rapid.Float64Range(1, 1e4).Draw(t, "factor")
		a := newAxis(low, high)
		for _, v := range append([]float64{low, high}, a.ticks...) {
			if x := a.at(v); math.IsNaN(x) || x < plotLeft || x > plotRight {
				t.Fatalf("%v of [%v, %v] is drawn at %v", v, low, high, x)
			}
		}
		if len(a.ticks) == 0 {
			t.Fatalf("no tick between %v and %v", low, high)
		}
	})
}

// server answers as the REST API does, without VMs behind it.
type server struct {
	mu      sync.Mutex // protects the following
	made    int
	alive   map[string][]byte // id → the file
	failAt  string            // "METHOD path-suffix" of a request that fails
	corrupt bool
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if s.failAt != "" && s.failAt == r.Method+" "+parts[len(parts)-1] {
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, `{"error":{"code":"host_failed","message":"no"}}`)
		return
	}
	switch {
	case parts[0] == "readyz":
		fmt.Fprint(w, `{"status":"ok","version":"v9"}`)
	case parts[1] == "hosts":
		fmt.Fprint(w, `[{"driver":"qemu","driver_version":"10.0","acceleration":"tcg","kernel_release":"6.1"}]`)
	case len(parts) == 2:
		s.made++
		id := fmt.Sprintf("s%d", s.made)
		s.alive[id] = nil
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"id":%q,"status":"running","vcpus":1,"memory_mb":512,"disk_mb":2048}`, id)
	case r.Method == http.MethodDelete:
		delete(s.alive, parts[2])
		w.WriteHeader(http.StatusNoContent)
	case parts[3] == "files" && r.Method == http.MethodPut:
		if s.corrupt {
			body[0] ^= 1
		}
		s.alive[parts[2]] = body
		w.WriteHeader(http.StatusNoContent)
	case parts[3] == "files":
		_, _ = w.Write(s.alive[parts[2]])
	case parts[3] == "exec":
		fmt.Fprint(w, `{"stdout":"","stderr":"","exit_code":0,"duration_ms":1}`)
	default:
		fmt.Fprintf(w, `{"id":%q,"status":"running"}`, parts[2])
	}
}

func measure(t *testing.T, s *server) (*Report, error) {
	t.Helper()
	s.alive = map[string][]byte{}
	web := httptest.NewServer(s)
	defer web.Close()
	report, err := Run(t.Context(), Options{
		Client: &client.Client{BaseURL: web.URL}, Size: Size{1, 512, 2048}, Rounds: 2, Burst: 3, Waves: 2, FileBytes: 1 << 20, Note: t.Logf,
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.alive) > 0 {
		t.Errorf("sandboxes left: %v", s.alive)
	}
	return report, err
}

func TestRun(t *testing.T) {
	report, err := measure(t, new(server))
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{
		opFirst: 1, opCreate: 2, opToExec: 2, opExec: 2 * execsPerRound, opPause: 2, opResume: 2, opDelete: 2,
		opUpload: 2, opDownload: 2, opBurst: 6, opBurstLast: 2,
	} {
		if m := report.find(name); m == nil || m.N != n || len(m.Samples) != n {
			t.Errorf("%s: %+v, want %d samples", name, m, n)
		}
	}
	if report.find(opBareBoot) != nil || report.find(opMemory) != nil || len(report.Missing) != 1 {
		t.Errorf("there was neither QEMU nor a VMM process here: %+v", report.Missing)
	}
	var text, svg strings.Builder
	if err := errors.Join(report.Text(&text), report.SVG(&svg)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"wrenn v9", "qemu 10.0", "create_to_exec", "burst_all", "not measured: memory"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, text.String())
		}
	}
	if n := strings.Count(svg.String(), "fill-opacity=\"0.55\""); n != 1+2*5+2*execsPerRound+2*2+6+2 {
		t.Errorf("the plot has %d samples", n)
	}
	if err := xml.Unmarshal([]byte(svg.String()), new(struct{ XMLName xml.Name })); err != nil {
		t.Errorf("the plot is not well-formed: %v", err)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
}

func TestRunThatFailsLeavesNothing(t *testing.T) {
	for _, at := range []string{"POST exec", "POST pause", "POST resume", "PUT files", "GET files", "GET hosts"} {
		if _, err := measure(t, &server{failAt: at}); err == nil {
			t.Errorf("%s failed and the run did not", at)
		}
	}
	if _, err := measure(t, &server{corrupt: true}); err == nil {
		t.Error("a file that came back changed was not noticed")
	}
}

func TestBareBootThatNeverGetsReady(t *testing.T) {
	b := Bare{Binary: "/bin/false", MakeDisk: func(context.Context, string, int64) error { return nil }}
	if _, err := b.boot(t.Context(), "tcg", Size{}); err == nil {
		t.Error("a machine that ends at once counts as booted")
	}
}

func TestShownArgumentsHaveNoPaths(t *testing.T) {
	b := Bare{Binary: "/usr/bin/qemu", Kernel: "/a/vmlinux", Initramfs: "/a/b.cpio", RootImage: "/c/root.erofs"}
	for _, arg := range b.shownArgs("kvm", Size{VCPUs: 1, MemoryMB: 512}) {
		if strings.Contains(arg, "/") {
			t.Errorf("%s", arg)
		}
	}
}
