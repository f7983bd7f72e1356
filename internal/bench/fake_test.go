package bench

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// The durations of the fake server's answers, in the time of a test's bubble.
const (
	poolTime    = 15 * time.Millisecond
	restoreTime = 150 * time.Millisecond
	refillTime  = 300 * time.Millisecond
	execTime    = 6 * time.Millisecond
	publicTime  = 9 * time.Millisecond
	attachTime  = 3 * time.Millisecond
	guestTime   = 4 * time.Millisecond // of an exec, the guest's own
	windowTime  = 70 * time.Millisecond
	childTime   = 100 * time.Millisecond
	baseTime    = 60 * time.Millisecond // of a pause and of a resume
	pausePerMB  = 2 * time.Millisecond
	resumePerMB = time.Millisecond
	forkPerMB   = time.Millisecond / 2  // of a fork's window, for memory
	loopTime    = 80 * time.Millisecond // of the sum in Python
	fileTime    = 500 * time.Millisecond
)

var testSize = Size{VCPUs: 1, MemoryMB: 512, DiskMB: 2048}

// server answers as the REST API does, without VMs behind it.
type server struct {
	runtimes   []string      // of the host; each has a pool
	pool       int           // warm clones that it keeps; 0 is no pool
	broken     bool          // the pool never fills
	staleHosts time.Duration // largest age of its report of the hosts
	failAt     string        // "METHOD path-suffix" of a request that fails
	failures   int           // number of such failures; 0 is always
	refuseOver int           // largest number of sandboxes alive; 0 is no limit
	corrupt    bool
	stuck      string // a sandbox that cannot be deleted

	mu        sync.Mutex // protects the following
	made      int
	failed    int
	alive     map[string]*fakeBox
	most      int // alive together
	snapshots map[string]bool
	refills   []time.Time // when the clones that left the pool are replaced
	report    string      // the last report of the hosts
	reportAt  time.Time
}

type fakeBox struct {
	file  []byte
	dirty time.Duration // MiB of memory
	asked int           // requests to a port
}

// RoundTrip lets the server be a client's transport: a bubble has no network.
func (s *server) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	body := []byte{}
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	time.Sleep(s.answer(w, req, body))
	return w.Result(), nil
}

// answer writes the answer and returns its duration.
func (s *server) answer(w *httptest.ResponseRecorder, req *http.Request, body []byte) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	if s.failAt == req.Method+" "+parts[len(parts)-1] && (s.failures == 0 || s.failed < s.failures) {
		s.failed++
		return refuse(w)
	}
	switch {
	case parts[0] == "readyz":
		fmt.Fprint(w, `{"status":"ok","version":"v9"}`)
	case parts[0] == "sandboxes": // in E2B's dialect
		fmt.Fprint(w, `{"envdAccessToken":"token"}`)
	case parts[0] == "process.Process":
		if s.alive[req.Header.Get("E2b-Sandbox-Id")] == nil || req.Header.Get("X-Access-Token") != "token" {
			return refuse(w)
		}
		for flags, message := range []string{`{"event":{"end":{"exited":true}}}`, "", "{}"} {
			if message != "" {
				_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{byte(flags)}, uint32(len(message))), message...))
			}
		}
		return publicTime
	case parts[1] == "hosts":
		fmt.Fprint(w, s.hosts())
	case parts[1] == "snapshots":
		delete(s.snapshots, parts[2])
	case len(parts) == 2:
		return s.create(w, body)
	case req.Method == http.MethodDelete && parts[2] == s.stuck:
		return refuse(w)
	case req.Method == http.MethodDelete:
		delete(s.alive, parts[2])
	case s.alive[parts[2]] == nil:
		return refuse(w)
	default:
		return s.use(w, req, parts[2], parts[3], body)
	}
	return time.Millisecond
}

func refuse(w *httptest.ResponseRecorder) time.Duration {
	w.WriteHeader(http.StatusBadGateway)
	fmt.Fprint(w, `{"error":{"code":"host_failed","message":"no"}}`)
	return time.Millisecond
}

// ready returns the number of clones that are ready.
func (s *server) ready() int {
	if s.broken {
		return 0
	}
	left := s.pool
	for _, at := range s.refills {
		if time.Now().Before(at) {
			left--
		}
	}
	return max(left, 0)
}

// take removes a clone; its replacement starts after the earlier ones.
func (s *server) take() {
	begin := time.Now()
	if n := len(s.refills); n > 0 && s.refills[n-1].After(begin) {
		begin = s.refills[n-1]
	}
	s.refills = append(s.refills, begin.Add(refillTime))
}

func (s *server) hosts() string {
	if s.report == "" || time.Since(s.reportAt) >= s.staleHosts {
		s.reportAt = time.Now()
		pools := "[]"
		if s.pool > 0 {
			each := make([]string, max(len(s.runtimes), 1))
			for i := range each {
				runtime := ""
				if len(s.runtimes) > 0 {
					runtime = s.runtimes[i]
				}
				each[i] = fmt.Sprintf(`{"template":"minimal","runtime":%q,"vcpus":1,"memory_mb":512,"disk_mb":2048,"target":%d,"ready":%d}`,
					runtime, s.pool, s.ready())
			}
			pools = "[" + strings.Join(each, ",") + "]"
		}
		offered := make([]string, len(s.runtimes))
		for i, name := range s.runtimes {
			offered[i] = fmt.Sprintf(`{"runtime":%q,"driver":"d","driver_version":"1","acceleration":"a-%s"}`, name, name)
		}
		s.report = fmt.Sprintf(`[{"driver":"qemu","driver_version":"10.0","acceleration":"tcg","kernel_release":"6.1","seen_at":%q,"pools":%s,"runtimes":[%s]}]`,
			s.reportAt.Format(time.RFC3339Nano), pools, strings.Join(offered, ","))
	}
	return s.report
}

func (s *server) create(w *httptest.ResponseRecorder, body []byte) time.Duration {
	var in client.CreateRequest
	if json.Unmarshal(body, &in) != nil || s.refuseOver > 0 && len(s.alive) >= s.refuseOver {
		return refuse(w)
	}
	if in.SnapshotID != "" && !s.snapshots[in.SnapshotID] {
		return refuse(w)
	}
	if s.runtimes != nil && in.SnapshotID == "" && !slices.Contains(s.runtimes, in.Runtime) {
		return refuse(w)
	}
	source, took := sourceRestore, restoreTime
	if in.SnapshotID == "" && (Size{in.VCPUs, in.MemoryMB, in.DiskMB}) == testSize && s.ready() > 0 {
		source, took = sourcePool, poolTime
		s.take()
	}
	fmt.Fprintf(w, `{"id":%q,"status":"running","template":"minimal","source":%q,"last_updated":%q}`,
		s.add(), source, time.Now().Format(time.RFC3339Nano))
	return took
}

func (s *server) add() (id string) {
	s.made++
	id = fmt.Sprintf("fake%dbox", s.made)
	s.alive[id] = &fakeBox{}
	s.most = max(s.most, len(s.alive))
	return id
}

// use answers a request about a sandbox.
func (s *server) use(w *httptest.ResponseRecorder, req *http.Request, id, what string, body []byte) time.Duration {
	box := s.alive[id]
	switch what {
	case "files":
		if req.Method == http.MethodGet {
			_, _ = w.Write(box.file)
			return fileTime
		}
		if s.corrupt {
			body[0] ^= 1
		}
		box.file = body
		return fileTime
	case "exec":
		return box.exec(w, body)
	case "processes":
		if strings.HasSuffix(req.URL.Path, "/attach") {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "event: stdout\ndata: {\"offset\":0,\"data\":\"eA==\"}\n\n")
			return attachTime
		}
		if req.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
		}
		fmt.Fprint(w, `{"id":"p1","status":"exited"}`)
		return time.Millisecond
	case "ports":
		if box.asked++; box.asked == 1 {
			return refuse(w) // it does not listen yet
		}
		_, _ = w.Write(make([]byte, 1<<20))
		return fileTime
	case "fork":
		return s.fork(w, box, body)
	case "snapshots":
		s.made++
		s.snapshots[fmt.Sprintf("snap%d", s.made)] = true
		fmt.Fprintf(w, `{"id":"snap%d","pause_window_ms":%d}`, s.made, windowTime.Milliseconds())
		return windowTime + restoreTime
	default: // pause and resume
		fmt.Fprintf(w, `{"id":%q,"status":"running"}`, id)
		return baseTime + box.dirty*map[string]time.Duration{"pause": pausePerMB, "resume": resumePerMB}[what]
	}
}

func (b *fakeBox) exec(w *httptest.ResponseRecorder, body []byte) time.Duration {
	var in struct {
		Args []string `json:"args"`
	}
	_ = json.Unmarshal(body, &in)
	stdout, took := "", execTime
	switch {
	case slices.Equal(in.Args, pythonArgs):
	case slices.Equal(in.Args, sumArgs):
		stdout, took = fmt.Sprintln(loopTime.Seconds()), execTime+loopTime
	case len(in.Args) == 2:
		loop := time.Millisecond
		commands := guestLoops*guestTime + loop
		stdout, took = fmt.Sprintf("%d %d\n", commands.Nanoseconds(), loop.Nanoseconds()), commands+loop
	case len(in.Args) == 4 && in.Args[1] == fillScript:
		_, _ = fmt.Sscan(in.Args[3], (*int64)(&b.dirty))
	}
	fmt.Fprintf(w, `{"stdout":%q,"stderr":"","exit_code":0,"duration_ms":1}`, stdout)
	return took
}

func (s *server) fork(w *httptest.ResponseRecorder, box *fakeBox, body []byte) time.Duration {
	var in client.ForkRequest
	_ = json.Unmarshal(body, &in)
	var children []string
	for range cmp.Or(in.Count, 1) {
		children = append(children, fmt.Sprintf(`{"id":%q}`, s.add()))
	}
	window := windowTime + box.dirty*forkPerMB
	fmt.Fprintf(w, `{"sandboxes":[%s],"failed":[],"pause_window_ms":%d}`, strings.Join(children, ","), window.Milliseconds())
	return window + time.Duration(len(children))*childTime
}

// smallOptions measures each part a few times.
func smallOptions() Options {
	return Options{
		Size: testSize, Rounds: 2, Burst: 3, Waves: 2, Stagger: 50 * time.Millisecond,
		DirtyMB: []int{8, 64}, DirtyRounds: 2, FileBytes: 1 << 20, Rest: time.Second,
	}
}

// measure runs against s in a bubble, and checks that no sandbox is left on it.
func measure(t *testing.T, s *server, o Options) (report *Report, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { report, err = measureIn(t.Context(), t, s, o) })
	return report, err
}

func measureIn(ctx context.Context, t *testing.T, s *server, o Options) (*Report, error) {
	t.Helper()
	s.alive, s.snapshots = map[string]*fakeBox{}, map[string]bool{}
	o.Client = &client.Client{HTTPClient: &http.Client{Transport: s}}
	o.Note = t.Logf
	report, err := Run(ctx, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.alive, s.stuck); len(s.alive)+len(s.snapshots) > 0 {
		t.Errorf("left: %d sandboxes, %d snapshots", len(s.alive), len(s.snapshots))
	}
	return report, err
}
