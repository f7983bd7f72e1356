package rest

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// filesWorld is a world with a running sandbox; path is where its files are.
func filesWorld(t *testing.T, change ...func(*Config)) (*world, string) {
	w := newWorld(t, change...)
	return w, "/v1/sandboxes/" + string(w.fake.add(sandbox.Running)) + "/files"
}

// formBody builds a form of "name=value" in order; the value of file becomes
// the content. A trailing "..." breaks the form off after the parts before it.
func formBody(parts ...string) (body, contentType string) {
	var b bytes.Buffer
	mw := multipart.NewWriter(&b)
	for _, p := range parts {
		name, value, _ := strings.Cut(p, "=")
		switch name {
		case "...":
			return b.String(), mw.FormDataContentType()
		case "file":
			fw, _ := mw.CreateFormFile("file", "a.txt")
			_, _ = io.WriteString(fw, value)
		default:
			_ = mw.WriteField(name, value)
		}
	}
	_ = mw.Close()
	return b.String(), mw.FormDataContentType()
}

func TestUploadForm(t *testing.T) {
	mode := uint32(0o755)
	for _, c := range []struct {
		name, query string
		parts       []string
		want        control.WriteFile
	}{
		{"plain", "", []string{"path=/a/b", "file=hello"}, control.WriteFile{Path: "/a/b"}},
		{"all fields", "", []string{"user=app", "mode=0755", "path=/a/b", "file=hello"}, control.WriteFile{Path: "/a/b", User: "app", Mode: &mode}},
		{"query", "?path=/a/b&mode=755", []string{"file=hello"}, control.WriteFile{Path: "/a/b", Mode: &mode}},
		{"both", "?user=app", []string{"path=/a/b", "file=hello"}, control.WriteFile{Path: "/a/b", User: "app"}},
		{"odd name", "", []string{"path=/a/ b\n\"é", "file=hello"}, control.WriteFile{Path: "/a/ b\n\"é"}},
	} {
		w, path := filesWorld(t)
		body, typ := formBody(c.parts...)
		w.want(w.call("POST", path+"/write"+c.query, body, "Content-Type: "+typ), http.StatusNoContent)
		got, ok := w.fake.files[c.want.Path]
		if !ok || string(got.data) != "hello" || got.where.User != c.want.User ||
			(got.where.Mode == nil) != (c.want.Mode == nil) || got.where.Mode != nil && *got.where.Mode != *c.want.Mode {
			t.Errorf("%s: %+v", c.name, w.fake.files)
		}
	}
}

func TestBadFormsWriteNothing(t *testing.T) {
	big := strings.Repeat("x", 2<<20)
	for _, c := range []struct {
		name, query string
		parts       []string
		status      int
		message     string
	}{
		{"no path", "", []string{"file=x"}, 400, "path is required"},
		{"no file", "", []string{"path=/a"}, 400, "no field file"},
		{"nothing", "", nil, 400, "form"},
		{"relative", "", []string{"path=a", "file=x"}, 400, "absolute"},
		{"empty path", "", []string{"path=", "file=x"}, 400, "path is required"},
		{"long path", "", []string{"path=/" + strings.Repeat("x", 5000), "file=x"}, 400, "4095"},
		{"path twice", "", []string{"path=/a", "path=/b", "file=x"}, 400, "path is given twice"},
		{"path in both", "?path=/b", []string{"path=/a", "file=x"}, 400, "path is given twice"},
		{"two files", "", []string{"path=/a", "file=x", "file=y"}, 400, "file is given twice"},
		{"unknown field", "", []string{"paht=/a", "file=x"}, 400, `"paht"`},
		{"bad mode", "", []string{"path=/a", "mode=u+x", "file=x"}, 400, "mode"},
		{"bad user", "", []string{"path=/a", "user=a b", "file=x"}, 400, "user"},
		{"broken off in the file", "", []string{"path=/a", "file=x", "..."}, 400, "too early"},
		{"broken off before the file", "", []string{"path=/a", "..."}, 400, "too early"},
		{"too large", "", []string{"path=/a", "file=" + big}, 413, "1048576"},
		{"much too large", "", []string{"path=/a", "file=" + big + big}, 413, "1048576"},
		{"too large a field", "", []string{"path=" + big + big, "file=x"}, 413, "1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, path := filesWorld(t, func(c *Config) { c.MaxUploadBytes = 1 << 20 })
			before := w.fake.snapshot()
			body, typ := formBody(c.parts...)
			for _, chunked := range []bool{false, true} {
				var r io.Reader = strings.NewReader(body)
				if chunked {
					r = struct{ io.Reader }{r}
				}
				req, _ := http.NewRequest("POST", w.url+path+"/write"+c.query, r)
				req.Header.Set("Content-Type", typ)
				a := w.send(req)
				if chunked && c.name == "too large a field" {
					w.want(a, http.StatusBadRequest) // found out before the end
					continue
				}
				if got := w.want(a, c.status).fault(w); !strings.Contains(got.Message, c.message) {
					t.Errorf("message %q does not say %q", got.Message, c.message)
				}
			}
			if after := w.fake.snapshot(); after != before {
				t.Errorf("it changed something: %s", after)
			}
		})
	}
}

func TestPutAndGetFile(t *testing.T) {
	w, path := filesWorld(t)
	for _, content := range []string{"", "hello", "\x00\xff{"} {
		w.want(w.call("PUT", path+"?path=/d/a%20%22b%22.txt&mode=0600", content), http.StatusNoContent)
		for _, a := range []answer{
			w.want(w.call("GET", path+"?path=/d/a%20%22b%22.txt", ""), http.StatusOK),
			w.want(w.call("POST", path+"/read", `{"path":"/d/a \"b\".txt"}`), http.StatusOK),
		} {
			if string(a.body) != content || a.ContentLength != int64(len(content)) {
				t.Errorf("got %q, length %d", a.body, a.ContentLength)
			}
			_, params, err := mime.ParseMediaType(a.Header.Get("Content-Disposition"))
			if err != nil || params["filename"] != `a "b".txt` || a.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers %v", a.Header)
			}
		}
		if a := w.want(w.call("HEAD", path+"?path=/d/a%20%22b%22.txt", ""), http.StatusOK); a.ContentLength != int64(len(content)) || len(a.body) != 0 {
			t.Errorf("HEAD: length %d, body %q", a.ContentLength, a.body)
		}
	}
}

func TestUploadLimitIsExact(t *testing.T) {
	w, path := filesWorld(t, func(c *Config) { c.MaxUploadBytes = 1000 })
	for size, status := range map[int]int{999: 204, 1000: 204, 1001: 413, 5 << 20: 413} {
		for _, chunked := range []bool{false, true} {
			var r io.Reader = strings.NewReader(strings.Repeat("x", size))
			if chunked {
				r = struct{ io.Reader }{r}
			}
			req, _ := http.NewRequest("PUT", w.url+path+fmt.Sprintf("?path=/%d", size), r)
			w.want(w.send(req), status)
			if _, written := w.fake.files[fmt.Sprintf("/%d", size)]; written != (status == 204) {
				t.Errorf("%d bytes: written %v", size, written)
			}
		}
	}
}

// TestBrokenUploadWritesNothing cuts the connection in the middle of a body,
// once of known and once of unknown length.
func TestBrokenUploadWritesNothing(t *testing.T) {
	for _, head := range []string{"Content-Length: 100\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"} {
		w, path := filesWorld(t)
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PUT %s?path=/a HTTP/1.1\r\nHost: localhost\r\n%s", path, head)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn) // until the server has done with it
		conn.Close()
		w.fake.mu.Lock()
		if len(w.fake.files) != 0 {
			t.Errorf("%q: written %v", head, w.fake.files)
		}
		w.fake.mu.Unlock()
	}
}

// TestStalledPeersAreCutOff: neither an upload that stops nor a download that
// is not read keeps its handler.
func TestStalledPeersAreCutOff(t *testing.T) {
	for _, request := range []string{
		"PUT %s?path=/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhello",
		"GET %s?path=/special HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		w, path := filesWorld(t, func(c *Config) { c.StallTimeout = 20 * time.Millisecond })
		closed := make(chan bool, 1)
		w.fake.open = func() *control.File {
			return &control.File{Name: "special", Size: -1, Body: closeNotify{&pattern{}, closed}}
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, request, path)
		if strings.HasPrefix(request, "GET") {
			<-closed
		} else if answer, _ := io.ReadAll(conn); !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
			t.Errorf("a stalled upload is answered with %q", answer)
		}
		conn.Close()
	}
}

type closeNotify struct {
	io.Reader
	closed chan<- bool
}

func (c closeNotify) Close() error {
	c.closed <- true
	return nil
}

// TestBrokenDownloadDoesNotLookWhole: an error before the first byte has the
// error shape (see TestBadInput); one after it cuts the connection.
func TestBrokenDownloadDoesNotLookWhole(t *testing.T) {
	hello := func() io.Reader { return strings.NewReader("hello") }
	for name, f := range map[string]control.File{
		"known size":   {Size: 10, Body: io.NopCloser(io.MultiReader(hello(), failing{}))},
		"unknown size": {Size: -1, Body: io.NopCloser(io.MultiReader(hello(), failing{}))},
		"too short":    {Size: 10, Body: io.NopCloser(hello())},
	} {
		w, path := filesWorld(t)
		w.fake.open = func() *control.File { return &f }
		resp, err := client.Get(w.url + path + "?path=/special")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: the download looks whole", name)
		}
	}
	w, path := filesWorld(t)
	w.fake.open = func() *control.File {
		return &control.File{Name: "grown", Size: 5, Body: io.NopCloser(strings.NewReader("hello and more"))}
	}
	if a := w.want(w.call("GET", path+"?path=/special", ""), http.StatusOK); string(a.body) != "hello" {
		t.Errorf("a file that grew is %q", a.body)
	}
}

func TestDownloadThatFailsAtOnce(t *testing.T) {
	w, path := filesWorld(t)
	w.fake.open = func() *control.File {
		return &control.File{Name: "gone", Size: 5, Body: io.NopCloser(failing{})}
	}
	if a := w.want(w.call("GET", path+"?path=/special", ""), http.StatusBadGateway); a.fault(w).Code != "host_failed" {
		t.Errorf("%s", a.body)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) {
	return 0, fault.New(fault.HostFailed, "host_failed", "the guest went away")
}

func TestAttachmentNamesAreSafe(t *testing.T) {
	for name, want := range map[string]string{
		"a.txt":               `a.txt`,
		"/x/y/a.txt":          `a.txt`,
		"..":                  `download`,
		"":                    `download`,
		"/":                   `download`,
		"é ü.txt":             `é ü.txt`,
		"a\r\nSet-Cookie: b":  "a\r\nSet-Cookie: b",
		`a";filename="b.exe`:  `a";filename="b.exe`,
		"a\xffb":              `a_b`,
		"100%.txt":            `100%.txt`,
		"\u202Etxt.exe":       "\u202Etxt.exe",
		"semi;colon\\and'it'": "semi;colon\\and'it'",
	} {
		header := attachment(name)
		typ, params, err := mime.ParseMediaType(header)
		if err != nil || typ != "attachment" || params["filename"] != want {
			t.Errorf("%q: %s gives %q %v", name, header, params["filename"], err)
		}
		if strings.ContainsFunc(header, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("%q: %q holds what a header may not", name, header)
		}
	}
}

// TestTransfersAreStreamed moves a large file both ways, as form and as body,
// and watches the memory.
func TestTransfersAreStreamed(t *testing.T) {
	const size = 128 << 20
	w, path := filesWorld(t)
	w.fake.open = func() *control.File {
		return &control.File{Name: "big", Size: size, Body: io.NopCloser(io.LimitReader(&pattern{}, size))}
	}
	want := patternSum(size)
	peak := watchMemory(t)

	for _, form := range []bool{false, true} {
		req, _ := http.NewRequest("PUT", w.url+path+"?path=/big", io.LimitReader(&pattern{}, size))
		if form {
			head, typ := formBody("path=/big", "file=", "...")
			boundary := strings.TrimPrefix(typ, "multipart/form-data; boundary=")
			body := io.MultiReader(strings.NewReader(head), io.LimitReader(&pattern{}, size), strings.NewReader("\r\n--"+boundary+"--\r\n"))
			req, _ = http.NewRequest("POST", w.url+path+"/write", body)
			req.Header.Set("Content-Type", typ)
		}
		w.want(w.send(req), http.StatusNoContent)
		if got := w.fake.files["/big"]; got.size != size || got.sum != want {
			t.Errorf("form %v: %d bytes, sum %x, want %d, %x", form, got.size, got.sum, size, want)
		}
	}
	resp, err := client.Get(w.url + path + "?path=/special")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := crc32.New(castagnoli)
	if n, err := io.Copy(sum, resp.Body); n != size || err != nil || sum.Sum32() != want {
		t.Errorf("download: %d bytes, %v", n, err)
	}
	if got := peak(); got > 32<<20 {
		t.Errorf("the heap grew by %d MiB", got>>20)
	}
}

// watchMemory samples the heap until the function it returns is called, which
// returns by how many bytes it grew at most.
func watchMemory(t *testing.T) func() uint64 {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	before, peak := heap(), uint64(0)
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, heap())
			case <-stop:
				return
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return max(peak, before) - before
	}
}

// TestTwoGiB is TestTransfersAreStreamed at the size that the product promises;
// it takes a while and runs where it is asked for.
func TestTwoGiB(t *testing.T) {
	if os.Getenv("WRENN_LARGE") == "" {
		t.Skip("set WRENN_LARGE=1 to move 2 GiB")
	}
	const size = 2<<30 + 1
	w, path := filesWorld(t)
	peak := watchMemory(t)
	req, _ := http.NewRequest("PUT", w.url+path+"?path=/big", io.LimitReader(&pattern{}, size))
	w.want(w.send(req), http.StatusNoContent)
	if got := w.fake.files["/big"]; got.size != size {
		t.Errorf("%d bytes came", got.size)
	}
	if got := peak(); got > 32<<20 {
		t.Errorf("the heap grew by %d MiB", got>>20)
	}
}
