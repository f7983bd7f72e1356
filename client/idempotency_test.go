package client

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestIdempotencyKeyIsSent(t *testing.T) {
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.Header.Get("Idempotency-Key"))
		_, _ = w.Write([]byte("{}"))
	}))
	defer srv.Close()
	c := &Client{BaseURL: srv.URL}
	ctx := WithIdempotencyKey(t.Context(), "k1")
	if _, err := c.Create(ctx, CreateRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), CreateRequest{}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0] != "POST k1" || got[1] != "GET " || got[2] != "POST " {
		t.Errorf("sent %q", got)
	}
}
