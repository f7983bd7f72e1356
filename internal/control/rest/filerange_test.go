package rest

import (
	"net/http"
	"strings"
	"testing"
)

func TestRanges(t *testing.T) {
	w := newWorld(t)
	url := w.newFiles() + "?path=/data"
	w.want(w.call("PUT", url, "0123456789"), http.StatusNoContent)
	for _, tt := range []struct {
		given, condition string
		status           int
		body, place      string
	}{
		{"bytes=2-4", "", 206, "234", "bytes 2-4/10"},
		{"bytes=8-99", "", 206, "89", "bytes 8-9/10"},
		{"bytes=7-", "", 206, "789", "bytes 7-9/10"},
		{"bytes=-3", "", 206, "789", "bytes 7-9/10"},
		{"bytes=-99", "", 206, "0123456789", "bytes 0-9/10"},
		{"bytes=0-99999999999999999999999", "", 206, "0123456789", "bytes 0-9/10"},
		{"bytes=1-1", `"1-2-3"`, 206, "1", "bytes 1-1/10"},
		{"bytes=10-", "", 416, "", "bytes */10"},
		{"bytes=99999999999999999999999-", "", 416, "", "bytes */10"},
		{"bytes=1-1", `"other"`, 200, "0123456789", ""},
		{"bytes=1-1", "Tue, 14 Nov 2023 22:13:20 GMT", 200, "0123456789", ""},
		{"bytes=1-1", `W/"1-2-3"`, 200, "0123456789", ""},
		{"bytes=1-1,3-3", "", 200, "0123456789", ""},
		{"bytes=4-2", "", 200, "0123456789", ""},
		{"bytes=-0", "", 200, "0123456789", ""},
		{"bytes=+1-2", "", 200, "0123456789", ""},
		{"lines=1-2", "", 200, "0123456789", ""},
		{"", "", 200, "0123456789", ""},
	} {
		headers := []string{"Range: " + tt.given}
		if tt.condition != "" {
			headers = append(headers, "If-Range: "+tt.condition)
		}
		a := w.call("GET", url, "", headers...)
		if a.StatusCode != tt.status || a.Header.Get("Content-Range") != tt.place || tt.status < 400 && string(a.body) != tt.body {
			t.Errorf("%s, if %s: got %d, %q, %q; want %d, %q, %q", tt.given, tt.condition,
				a.StatusCode, a.Header.Get("Content-Range"), a.body, tt.status, tt.place, tt.body)
		}
		if tt.status < 400 && (a.Header.Get("ETag") != `"1-2-3"` || a.Header.Get("Accept-Ranges") != "bytes" || !strings.HasPrefix(a.Header.Get("Last-Modified"), "Tue, 14 Nov")) {
			t.Errorf("%s: got the headers %v, want ETag, Accept-Ranges and Last-Modified", tt.given, a.Header)
		}
	}
	head := w.want(w.call("HEAD", url, "", "Range: bytes=2-4"), http.StatusOK)
	if head.Header.Get("Content-Length") != "10" {
		t.Errorf("HEAD with a range: got the length %s, want 10", head.Header.Get("Content-Length"))
	}
	w.want(w.call("PUT", url, ""), http.StatusNoContent)
	w.want(w.call("GET", url, "", "Range: bytes=0-"), http.StatusOK)
}
